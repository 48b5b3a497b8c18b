"""A stop on a signal: finish the step, save, and exit with the signal's exit code."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from experiments.config.errors import TesseraError
from experiments.training.callbacks.saving import Checkpoints
from experiments.training.peers import Peers

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
LONGEST_WAIT = 15.0  # seconds that a signal leaves for a batch to arrive; clusters kill after 30


class Left(BaseException):
    """Work that a signal ends at once."""


class Interruption(Callback):
    """On SIGINT, SIGTERM or SIGUSR1 the current update is finished, a checkpoint is written and training stops.

    While the next batch is read there is nothing to finish: one process saves and stops at once. Several processes, or one that waits for
    a further part of an accumulated batch, stop without saving if that batch takes too long. Until training starts, signals have their
    usual effect. The exit code is 128 plus the signal's number. A second SIGINT stops at once.
    """

    def __init__(self, checkpoints: Checkpoints, report_failure: Callable[[str], None]) -> None:
        """
        Args:
            checkpoints: saves when a signal stops training.
            report_failure: stores that the run failed, with a sentence.
        """
        self.checkpoints = checkpoints
        self.report_failure = report_failure
        self.peers: Peers | None = None
        self._saves_at_once: Callable[[], bool] = lambda: False
        self._waiting = self._started = False
        self._waits = 0
        self._timer: threading.Timer | None = None
        self.received: int | None = None
        self.stopped_by: int | None = None
        self._leaving = False
        self._earlier: dict[int, Any] = {}
        self._group: Any = None

    @property
    def exit_code(self) -> int:
        """The same on every rank; 0 if the run was not stopped."""
        return 0 if self.stopped_by is None else 128 + self.stopped_by

    def setup(self, trainer: Trainer, task: Any, stage: str) -> None:
        """Set the handlers: Lightning's, from just before the first batch is read, then call them too and would not end the process."""
        self._earlier = {number: signal.getsignal(number) for number in SIGNALS}
        if trainer.world_size > 1:
            self.peers = Peers(os.environ["MASTER_ADDR"], self._on_loss)
        self._saves_at_once = lambda: trainer.world_size == 1 and task.step_complete
        self._set_handlers()
        self._wait()

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Replace Lightning's handlers. Ranks agree over a process group on the CPU, so that none waits for an accelerator."""
        self._group = torch.distributed.new_group(backend="gloo") if trainer.world_size > 1 else None
        self._set_handlers()
        self._started = True
        self._wait()

    def on_train_batch_start(self, trainer: Trainer, task: Any, batch: Any, batch_idx: int) -> None:
        """The batch has arrived."""
        self._waiting = False

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save and stop, if the step is complete on every rank and any rank received a signal."""
        number = self._signal(trainer) if task.step_complete else None
        if number is not None:
            self._stop(trainer, task, number)
        self._wait()

    def on_exception(self, trainer: Trainer, task: Any, exception: BaseException) -> None:
        """Save, if a signal ended the wait for a batch; end the other processes, if this one fails."""
        if isinstance(exception, Left) and self.received is not None:
            self._stop(trainer, task, self.received)
        elif self.peers is not None:
            self.peers.fail(exception)

    @contextmanager
    def leaving(self, trainer: Trainer, task: Any) -> Iterator[None]:
        """A block that follows the checkpoint of its update. A signal ends it at once; with several processes, which all take part in
        it, after the next update.
        """
        self._leaving = trainer.world_size == 1
        try:
            if self._leaving and self.received is not None:
                raise Left
            yield
        except Left:
            assert self.received is not None
            self._stop(trainer, task, self.received)
        finally:
            self._leaving = False

    def _stop(self, trainer: Trainer, task: Any, number: int) -> None:
        self.stopped_by = number
        if self._started and task.updates and task.updates != self.checkpoints.saved_at:
            self.checkpoints.save(trainer, task)
        log.warning("stopped at update %d of %d, saved; the same command resumes from here", task.updates, task.total_updates)
        trainer.should_stop = True

    def teardown(self, trainer: Trainer, task: Any, stage: str) -> None:
        """Leave the other processes."""
        if self.peers is not None:
            self.peers.leave()

    def _set_handlers(self) -> None:
        for number in SIGNALS:
            signal.signal(number, self._receive)

    def restore_handlers(self) -> None:
        """Give signals back to those that had them before `setup`; after `Trainer.fit`, which ends with Lightning's own exchange."""
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        self._earlier = {}
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        """A batch is read from here."""
        self._waits += 1
        self._waiting = True

    def _give_up(self, wait: int) -> None:
        """End the process, if it still waits for the batch with that number."""
        if self._waiting and self._waits == wait and self.received is not None:
            log.warning("no batch arrived within %.0f seconds: stopped without saving", LONGEST_WAIT)
            logging.shutdown()
            os._exit(128 + self.received)

    def _on_loss(self, sentence: str, reports: bool) -> int:
        """Report a lost process, see `Peers`; after a signal it has only stopped first."""
        if self.received is not None:
            return 128 + self.received
        if reports:
            error = TesseraError(f"{sentence}; the same command resumes from the last checkpoint")
            log.error("error: %s", error)
            self.report_failure(str(error))
        return 1

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
        if self.received is None and self.peers is not None:
            self.peers.send(number)
        self.received = number
        at_once = self._leaving or (self._waiting and self._saves_at_once())
        effect = "leaving the validation" if self._leaving else "stopping" if at_once else "finishing this update"
        log.warning("%s received: %s", signal.Signals(number).name, effect)
        if at_once:
            self._leaving = self._waiting = False
            raise Left
        if self._waiting:
            self._timer = threading.Timer(LONGEST_WAIT, self._give_up, [self._waits])
            self._timer.daemon = True
            self._timer.start()
