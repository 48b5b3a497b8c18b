"""Checkpoint files: written whole or not at all, read without running code; search for the newest readable one."""

import logging
import shutil
from pathlib import Path
from typing import Any

import torch

from experiments.config.errors import DiskFull
from experiments.runs.folder import CHECKPOINT_PATTERN
from tokenizer.files import atomic

log = logging.getLogger(__name__)

STATE = "tessera"  # key of the project's own state in a checkpoint


def save_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Save a checkpoint whole or not at all.

    Raises:
        DiskFull: names the path and the bytes needed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    needed, free = tensor_bytes(checkpoint), shutil.disk_usage(path.parent).free
    if needed > free:
        raise DiskFull(path, f"{free:,} bytes are free", needed)
    try:
        with atomic(path) as beside, open(beside, "wb") as file:
            torch.save(checkpoint, file)
    except (OSError, RuntimeError) as error:
        reason = error if isinstance(error, OSError) else error.__context__  # torch raises again over what could not be written
        if not isinstance(reason, OSError):
            raise
        raise DiskFull(path, str(reason), needed) from error


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
    """The newest checkpoint of a folder that can be read; a warning names those that cannot."""
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
