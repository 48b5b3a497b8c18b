"""A stop that was asked for: finish the step, save, and leave with the signal's exit code."""

import logging
import signal
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, Trainer

from experiments.callbacks.checkpoints import Checkpoints

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interruption(Callback):
    """On SIGINT, SIGTERM or SIGUSR1 the current update is finished, a checkpoint is written and training stops.

    The exit code is 128 plus the signal's number. A second SIGINT stops at once.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        """Save through `checkpoints`."""
        self.checkpoints = checkpoints
        self.received: int | None = None
        self._earlier: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """0 if nobody asked to stop."""
        return 0 if self.received is None else 128 + self.received

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Listen."""
        self._earlier = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save and stop, if the step is complete on every rank and any rank was asked to stop."""
        asked = trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(self.received is not None, all=False)
        if not (self.received is not None or asked) or not task.step_complete:
            return
        if task.updates != self.checkpoints.saved_at:
            self.checkpoints.save(trainer, task)
        log.warning("stopped at update %d of %d, saved; the same command goes on from here", task.updates, task.total_updates)
        trainer.should_stop = True

    def teardown(self, trainer: Trainer, task: Any, stage: str) -> None:
        """Listen no more."""
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        self._earlier = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        log.warning("%s received: finishing this update", signal.Signals(number).name)
