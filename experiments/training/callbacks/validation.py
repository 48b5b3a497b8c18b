"""Validation on the task's own clock, with a picture each time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from PIL import Image

from experiments.evaluation.figures import save_picture
from experiments.evaluation.reconstruction import Evaluation
from experiments.training.callbacks.loggers import Tolerant


class Validation(Callback):
    """Runs `validate` every `every` updates, before the checkpoint of that update, so that an interrupted validation is repeated."""

    def __init__(
        self, validate: Callable[[], Evaluation], every: int, folder: Path, draw: Callable[[Evaluation], Image.Image] | None = None
    ) -> None:
        """Keep the settings.

        Args:
            validate: judges the task's model and its average.
            every: updates between two validations.
            folder: of the pictures.
            draw: makes the picture of an evaluation that has images; None for no pictures.
        """
        self.validate = validate
        self.every = every
        self.folder = folder
        self.draw = draw
        self.last: Evaluation | None = None
        self.picture: Path | None = None

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Validate after both players' steps."""
        if task.step_complete and (task.updates % self.every == 0 or task.updates == task.total_updates):
            self.last = self.run(trainer, task)
            task.report(self.last.values)
            for logger in trainer.loggers:
                if isinstance(logger, Tolerant):
                    logger.log_evaluation(self.last, self.picture, task.updates)
            task.measure_speed_from_here()

    def on_train_end(self, trainer: Trainer, task: Any) -> None:
        """Validate a run that had only its ending left, while its parts are still on their device."""
        if self.last is None and task.updates >= task.total_updates:
            self.last = self.run(trainer, task)

    def run(self, trainer: Trainer, task: Any) -> Evaluation:
        """Judge, and write the picture."""
        evaluation = self.validate()
        if trainer.is_global_zero and self.draw is not None and len(evaluation.images):
            self.picture = self.folder / f"updates_{task.updates:08d}.png"
            save_picture(self.draw(evaluation), self.picture)
        return evaluation
