"""Checkpoints of a training: saved every few updates, of which the newest few stay."""

from pathlib import Path
from typing import Any

from lightning.fabric.utilities.types import _PATH
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from experiments.runs.checkpoints import load_checkpoint, save_checkpoint
from experiments.runs.folder import CHECKPOINT_PATTERN


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's way to checkpoint files, through `experiments.runs.checkpoints`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Save whole or not at all."""
        save_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: _PATH, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Load without running any code in the file."""
        return load_checkpoint(Path(path), map_location)


class Checkpoints(Callback):
    """Saves every `every` updates and at the last one, and removes all but the newest `keep`; both are at least 1."""

    def __init__(self, folder: Path, every: int, keep: int) -> None:
        self.folder = folder
        self.every = every
        self.keep = keep
        self.saved_at = -1

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save after the steps of both optimizers."""
        updates = task.updates
        if updates != self.saved_at and (updates % self.every == 0 or updates == task.total_updates) and task.step_complete:
            self.save(trainer, task)

    def save(self, trainer: Trainer, task: Any) -> None:
        """Save now. A run whose last step was not finite stops here: its earlier checkpoints stay."""
        task.finite.verify()
        self.saved_at = task.updates
        trainer.save_checkpoint(self.folder / f"updates_{task.updates:08d}.ckpt", weights_only=False)
        task.measure_speed_from_here()
        if trainer.is_global_zero:
            for old in sorted(self.folder.glob(CHECKPOINT_PATTERN))[: -self.keep]:
                old.unlink()
