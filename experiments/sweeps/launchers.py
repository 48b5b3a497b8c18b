"""Launchers of a sweep's jobs. A launcher starts an entry and returns a handle with its exit status and ways to end it.

On this machine every stage is a process tree of its own; SLURM jobs are in `experiments.sweeps.launchers_slurm`.
"""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from experiments.runs.processes import ProcessTree
from experiments.sweeps.entries import Entry

LAUNCHERS = ("local", "slurm", "submitit_local")


class Handle(Protocol):
    """A started entry."""

    def poll(self) -> int | None:
        """The exit status, minus the number of a signal that ended it; None while it runs."""

    def interrupt(self, number: int) -> None:
        """Pass a signal on; a training saves and exits."""

    def kill(self) -> None:
        """End it at once, with all its processes."""


class Launcher(Protocol):
    """Starts entries."""

    @property
    def slots(self) -> int | None:
        """Number of entries at the same time; None for no limit."""

    def start(self, entry: Entry, slot: int) -> Handle:
        """Start the stages of an entry that are not done."""

    def together(self) -> AbstractContextManager[None]:
        """Context of starts that may be submitted together."""


class LocalHandle:
    """The stages of an entry on this machine, one after another."""

    def __init__(self, entry: Entry, environment: Mapping[str, str]) -> None:
        self.stages = [stage for stage in entry.stages if not stage.done]
        self.log = entry.log
        self.environment = environment
        self.interrupted = False
        self.tree = self._next()

    def poll(self) -> int | None:
        """The status of the first stage that fails, or of the last."""
        status = self.tree.poll()
        if status == 0 and self.stages and not self.interrupted:
            self.tree = self._next()
            return None
        return status

    def interrupt(self, number: int) -> None:
        """Pass a signal on, and start no other stage."""
        self.interrupted = True
        self.tree.interrupt(number)

    def kill(self) -> None:
        """End the stage's processes."""
        self.tree.kill()

    def _next(self) -> ProcessTree:
        return ProcessTree(self.stages.pop(0).command, self.log, self.environment)


class LocalLauncher:
    """Process trees on this machine, which share its cores and its GPUs."""

    def __init__(self, slots: int, gpus: list[str]) -> None:
        """
        Args:
            slots: number of entries at the same time.
            gpus: visible GPUs, as in CUDA_VISIBLE_DEVICES.
        """
        self.slots = slots
        self.gpus = gpus

    def start(self, entry: Entry, slot: int) -> LocalHandle:
        """Start an entry with the share of `slot`."""
        return LocalHandle(entry, {**os.environ, **self.share(slot)})

    def share(self, slot: int) -> dict[str, str]:
        """The environment variables that give a slot its cores and GPUs."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        shares = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(max(1, cores // self.slots))}
        if len(self.gpus) > 1 and self.slots > 1:
            each = gpus_of_a_slot(len(self.gpus), self.slots)
            first = slot * each % len(self.gpus)
            shares["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus[first : first + each])
        return shares

    def together(self) -> AbstractContextManager[None]:
        """A context that does nothing."""
        return nullcontext()


def gpus_of_a_slot(gpus: int, slots: int) -> int:
    """Number of GPUs of each of `slots` jobs on this machine: an equal part, at least one."""
    return max(1, gpus // slots) if gpus else 0
