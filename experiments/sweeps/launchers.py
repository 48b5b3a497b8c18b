"""Where the processes of a sweep's jobs run: on this machine side by side, or as jobs of SLURM.

A launcher starts an entry and gives a handle: how it ended, and ways to end it. Locally every stage is a process tree of its own;
under SLURM one job takes all stages of an entry, and goes back into the queue when its time is over or somebody more important comes.
"""

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol

from experiments.config.errors import ConfigError
from experiments.runs.processes import ProcessTree
from experiments.sweeps.entries import Entry, Stage
from tokenizer.files import write_text

LAUNCHERS = ("local", "slurm", "submitit_local")
INSTALL = 'pip install "tessera-tokenizers[slurm]", or pip install submitit'


class Handle(Protocol):
    """A started entry."""

    def poll(self) -> int | None:
        """The exit status, minus the number of a signal that ended it; None while it runs."""

    def interrupt(self, number: int) -> None:
        """Pass a signal on; a training saves and leaves."""

    def kill(self) -> None:
        """End it at once, with all its processes."""


class Launcher(Protocol):
    """Starts entries."""

    @property
    def slots(self) -> int | None:
        """How many may be on their way; None for all."""

    def start(self, entry: Entry, slot: int) -> Handle:
        """Start the stages of an entry that are not done."""

    def together(self) -> AbstractContextManager[None]:
        """Around starts that belong together."""


class LocalHandle:
    """The stages of an entry on this machine, one after another."""

    def __init__(self, entry: Entry, environment: Mapping[str, str]) -> None:
        """Start the first stage that is not done."""
        self.stages = [stage for stage in entry.stages if not stage.done]
        self.log = entry.log
        self.environment = environment
        self.asked = False
        self.tree = self._next()

    def poll(self) -> int | None:
        """The status of the first stage that fails, or of the last."""
        status = self.tree.poll()
        if status == 0 and self.stages and not self.asked:
            self.tree = self._next()
            return None
        return status

    def interrupt(self, number: int) -> None:
        """Pass a signal on, and start no other stage."""
        self.asked = True
        self.tree.interrupt(number)

    def kill(self) -> None:
        """End the stage's processes."""
        self.tree.kill()

    def _next(self) -> ProcessTree:
        return ProcessTree(self.stages.pop(0).command, self.log, self.environment)


class LocalLauncher:
    """Process trees on this machine, which share its cores and its GPUs."""

    def __init__(self, slots: int, gpus: list[str]) -> None:
        """Take `slots` entries at a time; `gpus` are those that CUDA may see, by the names that it has for them."""
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
        """Nothing special."""
        return nullcontext()


class QueuedStages:
    """What a job of SLURM does: the stages of an entry. Pickled on its way there, and again when the job goes back into the queue."""

    def __init__(self, stages: list[Stage], log: Path) -> None:
        """Take the stages; their output goes behind what `log` has."""
        self.stages = stages
        self.log = log
        self.tree: ProcessTree | None = None

    def __call__(self) -> int:
        """Run the stages that are not done; the exit status of the first that fails."""
        # Lightning would take the one task of this job for a launch of its own, and expect a task for every GPU.
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SUBMITIT_"))}
        for stage in self.stages:
            if stage.done:
                continue
            self.tree = ProcessTree(stage.command, self.log, environment)
            try:
                status = self.tree.process.wait()
            except BaseException:  # the job is cancelled
                self.tree.interrupt(signal.SIGTERM)
                raise
            self.tree.poll()
            if status:
                return status
        return 0

    def checkpoint(self) -> Any:
        """Let the training save and leave, and say what the job does when it comes again."""
        from submitit.helpers import DelayedSubmission

        if self.tree is not None and self.tree.process.returncode is None:
            self.tree.interrupt(signal.SIGTERM)
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self.tree.process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(QueuedStages(self.stages, self.log))


class QueuedHandle:
    """A job of SLURM. A file says which, as long as it is in the queue or runs: a sweep that is started again watches it."""

    def __init__(self, file: Path, job: Any = None) -> None:
        """Watch a submitit job; None until it is submitted."""
        self.file = file
        self.job = job
        self.cancelled = False

    def submitted(self, job: Any, folder: Path) -> None:
        """Watch a job, and write down its number and the folder in which submitit keeps it."""
        self.job = job
        write_text(self.file, json.dumps({"folder": str(folder), "job": job.job_id}) + "\n")

    def poll(self) -> int | None:
        """The status of its stages; 1 if the job itself came to an end."""
        if not self.job.done():
            return None
        self.file.unlink(missing_ok=True)
        if self.cancelled or self.job.exception() is not None:  # of a cancelled job submitit would wait for a result
            return 1
        return int(self.job.result())

    def interrupt(self, number: int) -> None:
        """Cancel it: SLURM asks all its processes to end."""
        self.cancelled = True
        self.job.cancel()
        self.file.unlink(missing_ok=True)

    def kill(self) -> None:
        """Cancel it."""
        self.interrupt(signal.SIGKILL)


class QueueLauncher:
    """Jobs of SLURM through submitit, in one array, of which at most `slots` run side by side."""

    def __init__(self, cluster: str, folder: Path, slots: int, settings: Mapping[str, Any]) -> None:
        """Get ready to submit.

        Args:
            cluster: slurm, or local to do the same on this machine.
            folder: for what submitit keeps of each job.
            slots: jobs side by side.
            settings: the block `slurm` of conf/sweep.yaml.

        Raises:
            ConfigError: submitit is absent, or there is no SLURM here.
        """
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
            # A shell ignores SIGINT for what it starts in the background, its children too, and submitit cancels local jobs by it.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            import submitit
        except ImportError as error:
            raise ConfigError(f"launcher={cluster} needs submitit: {INSTALL}; or leave `launcher` out") from error
        self.slots: int | None = slots if cluster == "local" else None  # SLURM counts itself
        self.job_class = submitit.LocalJob if cluster == "local" else submitit.SlurmJob
        self.new: list[tuple[QueuedHandle, QueuedStages]] = []
        try:
            self.executor = submitit.AutoExecutor(folder, cluster=cluster, slurm_max_num_timeout=settings["requeues"])
        except RuntimeError as error:
            raise ConfigError(f"launcher={cluster}: {error}; start it where sbatch is, or leave `launcher` out") from error
        names = {"partition": "slurm_partition", "memory": "slurm_mem"}
        shared = {key: settings[key] for key in ("timeout_min", "gpus_per_node", "cpus_per_task")}
        chosen = {name: settings[key] for key, name in names.items() if settings[key] is not None}
        self.executor.update_parameters(
            name="tessera", nodes=1, tasks_per_node=1, slurm_array_parallelism=slots, slurm_signal_delay_s=120, **shared, **chosen
        )

    def start(self, entry: Entry, slot: int) -> QueuedHandle:
        """Submit an entry, or watch its job if an earlier sweep submitted one that is not over.

        Raises:
            ConfigError: SLURM does not say how it is with the earlier job.
        """
        file = entry.log.with_suffix(".job")
        earlier = self._earlier(file)
        handle = QueuedHandle(file, earlier)
        if earlier is None:
            self.new.append((handle, QueuedStages(entry.stages, entry.log.resolve())))
        return handle

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around starts: what is submitted in there becomes one array at its end."""
        self.new = []
        yield
        if self.new:
            with self.executor.batch():
                jobs = [self.executor.submit(stages) for _, stages in self.new]
            for (handle, _), job in zip(self.new, jobs, strict=True):
                handle.submitted(job, self.executor.folder)

    def _earlier(self, file: Path) -> Any:
        """The job that a file speaks of, None if there is none or it is over."""
        if not file.is_file():
            return None
        kept = json.loads(file.read_text())
        job: Any = self.job_class(kept["folder"], kept["job"])
        if job.done(force_check=True):
            return None
        if job.state.upper() == "UNKNOWN":
            unknown = f"SLURM does not know the state of job {kept['job']}"
            raise ConfigError(f"{file}: {unknown}; try again in a minute, or remove this file if the job is over")
        return job


def gpus_of_a_slot(gpus: int, slots: int) -> int:
    """How many of a machine's GPUs each of `slots` jobs sees: an equal part, at least one."""
    return max(1, gpus // slots) if gpus else 0
