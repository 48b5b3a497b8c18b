"""The progress bar: updates done, the last logged losses, speed, time left."""

import logging
import time
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from rich.progress import Progress

from experiments.runs.terminal import SECONDS_BETWEEN_LINES, progress_bar

log = logging.getLogger(__name__)

NAMES = {
    "train/loss/nll": "nll",
    "train/loss/reconstruction": "reconstruction",
    "train/loss/perceptual": "perceptual",
    "train/loss/adversarial": "adversarial",
    "train/loss/discriminator": "discriminator",
    "val/psnr": "val psnr",
    "val/nll": "val nll",
    "perf/images_per_second": "images/s",
}


class LastValues(Logger):
    """The last values of the bar's metrics; a logger, so that it reads no device."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, float] = {}

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "progress"

    @property
    def version(self) -> str:
        """Unused."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Store the values of the bar."""
        self.values.update({NAMES[key]: value for key, value in metrics.items() if key in NAMES})

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The bar has none."""

    def __str__(self) -> str:
        return "  ".join(f"{name} {value:.4g}" for name, value in self.values.items())


class ProgressBar(Callback):
    """A bar on a terminal; a line every half minute where there is none."""

    def __init__(self, last: LastValues) -> None:
        self.last = last
        self.bar: Progress | None = None
        self.line_at = 0.0

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Open the bar at the update that the run resumes from."""
        self.bar = progress_bar() if trainer.is_global_zero else None
        if self.bar is not None:
            self.bar.add_task("", total=task.total_updates, completed=task.updates)
            self.bar.start()
        self.line_at = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Advance the bar."""
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=task.updates, description=str(self.last))
        elif trainer.is_global_zero and time.monotonic() - self.line_at > SECONDS_BETWEEN_LINES:
            self.line_at = time.monotonic()
            log.info("update %d of %d  %s", task.updates, task.total_updates, self.last)

    def teardown(self, trainer: Trainer, task: Any, stage: str) -> None:
        """Close the bar, also after an error."""
        if self.bar is not None:
            self.bar.stop()
