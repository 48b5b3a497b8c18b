"""Validation on the task's own clock, with a figure each time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from PIL import Image

from experiments.evaluation.figures import save_image
from experiments.evaluation.reconstruction import Evaluation
from experiments.training.callbacks.interruption import Interruption
from experiments.training.callbacks.loggers import Tolerant


class Validation(Callback):
    """Runs `validate` every `every` updates and at the last one.

    It follows the checkpoint of its update, which a stop in the middle leaves: a run that resumes there validates first.
    """

    def __init__(
        self,
        validate: Callable[[], Evaluation],
        every: int,
        folder: Path,
        interruption: Interruption,
        make_figure: Callable[[Evaluation], Image.Image] | None = None,
    ) -> None:
        """
        Args:
            validate: evaluates the task's model and its average.
            every: updates between two validations.
            folder: folder of the figures.
            interruption: receives signals, which end a validation.
            make_figure: figure of an evaluation that has images; None for no figures.
        """
        self.validate = validate
        self.every = every
        self.folder = folder
        self.interruption = interruption
        self.make_figure = make_figure
        self.last: Evaluation | None = None
        self.figure: Path | None = None

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Validate a run that resumes from a checkpoint whose validation it did not finish, perhaps."""
        self._run_if_due(trainer, task)

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Validate after the steps of both optimizers."""
        if task.step_complete and not trainer.should_stop:
            self._run_if_due(trainer, task)

    def is_due(self, updates: int, total: int) -> bool:
        """Whether update number `updates` of `total` is validated."""
        return updates > 0 and (updates % self.every == 0 or updates == total)

    def _run_if_due(self, trainer: Trainer, task: Any) -> None:
        if not self.is_due(task.updates, task.total_updates):
            return
        with self.interruption.leaving(trainer, task):
            self.last = self.run(trainer, task)
            task.report(self.last.values)
            for logger in trainer.loggers:
                if isinstance(logger, Tolerant):
                    logger.log_evaluation(self.last, self.figure, task.updates)
        task.measure_speed_from_here()

    def run(self, trainer: Trainer, task: Any) -> Evaluation:
        """Evaluate, and write the figure."""
        evaluation = self.validate()
        if trainer.is_global_zero and self.make_figure is not None and len(evaluation.images):
            self.figure = self.folder / f"updates_{task.updates:08d}.png"
            save_image(self.make_figure(evaluation), self.figure)
        return evaluation
