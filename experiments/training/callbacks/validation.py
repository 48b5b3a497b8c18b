"""Validation on the task's own clock, with a figure each time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from PIL import Image

from experiments.evaluation.figures import save_image
from experiments.evaluation.reconstruction import Evaluation
from experiments.training.callbacks.loggers import Tolerant


class Validation(Callback):
    """Runs `validate` every `every` updates, before the checkpoint of that update, so that an interrupted validation is repeated."""

    def __init__(
        self, validate: Callable[[], Evaluation], every: int, folder: Path, make_figure: Callable[[Evaluation], Image.Image] | None = None
    ) -> None:
        """
        Args:
            validate: evaluates the task's model and its average.
            every: updates between two validations.
            folder: folder of the figures.
            make_figure: figure of an evaluation that has images; None for no figures.
        """
        self.validate = validate
        self.every = every
        self.folder = folder
        self.make_figure = make_figure
        self.last: Evaluation | None = None
        self.figure: Path | None = None

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Validate after the steps of both optimizers."""
        if task.step_complete and (task.updates % self.every == 0 or task.updates == task.total_updates):
            self.last = self.run(trainer, task)
            task.report(self.last.values)
            for logger in trainer.loggers:
                if isinstance(logger, Tolerant):
                    logger.log_evaluation(self.last, self.figure, task.updates)
            task.measure_speed_from_here()

    def on_train_end(self, trainer: Trainer, task: Any) -> None:
        """Validate a resumed run that had only validation left, while its parts are still on their device."""
        if self.last is None and task.updates >= task.total_updates:
            self.last = self.run(trainer, task)

    def run(self, trainer: Trainer, task: Any) -> Evaluation:
        """Evaluate, and write the figure."""
        evaluation = self.validate()
        if trainer.is_global_zero and self.make_figure is not None and len(evaluation.images):
            self.figure = self.folder / f"updates_{task.updates:08d}.png"
            save_image(self.make_figure(evaluation), self.figure)
        return evaluation
