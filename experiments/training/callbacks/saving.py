"""Checkpoints: written whole or not at all, the newest few kept, the last one first to be tried."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from experiments.runs.folder import CHECKPOINT_PATTERN

log = logging.getLogger(__name__)


class DiskFullError(ValueError):
    """Not enough room for a checkpoint."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the place, in the same folder, then renames; loads tensors and plain containers only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Save, or leave the folder as it was.

        Raises:
            DiskFullError: names the path, the bytes needed and the bytes free.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        needed, free = tensor_bytes(checkpoint), shutil.disk_usage(path.parent).free
        if needed > free:
            raise DiskFullError(f"no room for {path}: it needs {needed:,} bytes, {free:,} are free; earlier checkpoints are intact")
        beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with open(beside, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except (OSError, RuntimeError) as error:
            reason = error if isinstance(error, OSError) else error.__context__  # torch fails once more over what could not be written
            if not isinstance(reason, OSError):
                raise
            raise DiskFullError(f"could not write {path} ({reason}); it needs {needed:,} bytes, earlier checkpoints are intact") from error
        finally:
            beside.unlink(missing_ok=True)

    def load_checkpoint(self, path: _PATH, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Load without running any code that a file may carry."""
        return load_checkpoint(Path(path), map_location)


def load_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The content of a checkpoint file."""
    return dict(torch.load(path, map_location=map_location, weights_only=True))


def tensor_bytes(tree: Any) -> int:
    """Bytes of all tensors in nested containers."""
    if isinstance(tree, torch.Tensor):
        return tree.numel() * tree.element_size()
    if isinstance(tree, dict):
        return sum(tensor_bytes(value) for value in tree.values())
    return sum(tensor_bytes(value) for value in tree) if isinstance(tree, list | tuple) else 0


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a folder that can be read; bad ones are named and passed over."""
    for path in sorted(folder.glob(CHECKPOINT_PATTERN), reverse=True):
        try:
            torch.load(path, map_location="meta", weights_only=True, mmap=False)
        except Exception as error:
            log.warning("%s cannot be read (%s); trying the one before it", path, str(error).splitlines()[0])
            continue
        return path
    return None


def updates_of(path: Path) -> int:
    """The update that a checkpoint file is named after."""
    return int(path.stem.removeprefix("updates_"))


class Checkpoints(Callback):
    """Saves every `every` updates and at the last one, and keeps the newest `keep`."""

    def __init__(self, folder: Path, every: int, keep: int) -> None:
        """Keep the settings; both counts at least 1."""
        self.folder = folder
        self.every = every
        self.keep = keep
        self.saved_at = -1

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save after both players' steps."""
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
