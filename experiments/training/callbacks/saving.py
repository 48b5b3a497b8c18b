"""Checkpoints of a training: saved every few updates, of which the newest few stay."""

from pathlib import Path
from typing import Any

from lightning.fabric.utilities.types import _PATH
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from experiments.runs.checkpoints import load_checkpoint, save_checkpoint
from experiments.runs.integrity import list_checkpoints


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's way to checkpoint files, through `experiments.runs.checkpoints`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Save whole or not at all."""
        save_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: _PATH, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Load without running any code in the file."""
        return load_checkpoint(Path(path), map_location)


class Checkpoints(Callback):
    """Saves every `every` updates, before every validation and at the last update, and removes all but the newest `keep`."""

    def __init__(self, folder: Path, every: int, keep: int, validate_every: int) -> None:
        """All numbers are of updates, but `keep`, which is of checkpoints, and at least 1."""
        self.folder = folder
        self.every = every
        self.keep = keep
        self.validate_every = validate_every
        self.saved_at = -1

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """The checkpoint of a run that resumes is there already."""
        self.saved_at = task.updates if task.updates else -1
        task.finite.checkpoint = self._path(task.updates) if task.updates else None

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save after the steps of both optimizers."""
        updates = task.updates
        due = updates % self.every == 0 or updates % self.validate_every == 0 or updates == task.total_updates
        if updates != self.saved_at and due and task.step_complete:
            self.save(trainer, task)

    def save(self, trainer: Trainer, task: Any) -> None:
        """Save now. A run whose last step was not finite stops here: its earlier checkpoints stay."""
        task.finite.verify()
        self.saved_at = task.updates
        trainer.save_checkpoint(self._path(task.updates), weights_only=False)
        task.finite.checkpoint = self._path(task.updates)
        task.measure_speed_from_here()
        if trainer.is_global_zero:
            for old in list_checkpoints(self.folder)[: -self.keep]:
                old.unlink(missing_ok=True)

    def _path(self, updates: int) -> Path:
        return self.folder / f"updates_{updates:08d}.ckpt"
