"""A stop on a signal: finish the step, save, and exit with the signal's exit code."""

import logging
import signal
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from experiments.training.callbacks.saving import Checkpoints

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interruption(Callback):
    """On SIGINT, SIGTERM or SIGUSR1 the current update is finished, a checkpoint is written and training stops.

    The exit code is 128 plus the signal's number. A second SIGINT stops at once.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.received: int | None = None
        self.stopped_by: int | None = None
        self._earlier: dict[int, Any] = {}
        self._group: Any = None

    @property
    def exit_code(self) -> int:
        """The same on every rank; 0 if the run was not stopped."""
        return 0 if self.stopped_by is None else 128 + self.stopped_by

    def setup(self, trainer: Trainer, task: Any, stage: str) -> None:
        """Store the handlers before Lightning sets its own, which it removes before our teardown."""
        self._earlier = {number: signal.getsignal(number) for number in SIGNALS}

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Set the handlers. Ranks agree over a process group on the CPU, so that none waits for an accelerator."""
        self._group = torch.distributed.new_group(backend="gloo") if trainer.world_size > 1 else None
        for number in SIGNALS:
            signal.signal(number, self._receive)

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save and stop, if the step is complete on every rank and any rank received a signal."""
        number = self._signal(trainer)
        if number is None or not task.step_complete:
            return
        self.stopped_by = number
        if task.updates != self.checkpoints.saved_at:
            self.checkpoints.save(trainer, task)
        log.warning("stopped at update %d of %d, saved; the same command resumes from here", task.updates, task.total_updates)
        trainer.should_stop = True

    def teardown(self, trainer: Trainer, task: Any, stage: str) -> None:
        """Restore the handlers."""
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        self._earlier = {}

    def _signal(self, trainer: Trainer) -> int | None:
        """The number of a signal that any rank received."""
        if trainer.world_size == 1:
            return self.received
        number = torch.tensor(self.received or 0)
        torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX, self._group)
        return int(number) or None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        log.warning("%s received: finishing this update", signal.Signals(number).name)
