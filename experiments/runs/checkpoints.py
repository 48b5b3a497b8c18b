"""Checkpoint files: written whole or not at all, verified and read without running code; search for the newest undamaged one."""

import itertools
import logging
import pickle
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.config.errors import FULL, DamagedFile, DiskFull
from experiments.runs.integrity import list_checkpoints, seal, updates_of, verify
from tokenizer.files import atomic, short_hash

__all__ = ["STATE", "check_parts", "load_checkpoint", "newest_checkpoint", "save_checkpoint", "sound_checkpoints", "updates_of"]

log = logging.getLogger(__name__)

STATE = "tessera"  # key of the project's own state in a checkpoint
OUTLINE = "outline"  # in that state: hash of the names, types and sizes in each part
PARTS = {"state_dict": dict, "optimizer_states": list, "lr_schedulers": list, "loops": dict, STATE: dict}
STATE_PARTS = ("updates", "batches", "seconds", "average")


def save_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Save a checkpoint whole or not at all.

    Raises:
        DiskFull: names the path, needed and free bytes, and the last checkpoint.
        OSError: the system does not let it be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if STATE in checkpoint:
        checkpoint[STATE][OUTLINE] = outline(checkpoint)
    needed = tensor_bytes(checkpoint)
    if needed > shutil.disk_usage(path.parent).free:
        raise _full(path, "it does not fit", needed)
    try:
        with atomic(path) as beside:
            with open(beside, "wb") as file:
                torch.save(checkpoint, file)
            seal(beside)
    except (OSError, RuntimeError) as error:
        reason = error if isinstance(error, OSError) else error.__context__  # torch raises again over what could not be written
        if not isinstance(reason, OSError):
            raise
        if reason.errno not in FULL:
            raise reason from error
        raise _full(path, str(reason.strerror), needed) from error


def _full(path: Path, reason: str, needed: int) -> DiskFull:
    return DiskFull(path, reason, needed, shutil.disk_usage(path.parent).free, last_saved(path.parent))


def last_saved(folder: Path) -> str:
    """The last checkpoint of a folder, in words."""
    saved = list_checkpoints(folder)
    return f"the last checkpoint is {saved[-1]}" if saved else "no checkpoint was saved before"


def load_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The content of a checkpoint file, after it was verified. No code in the file is run.

    Raises:
        DamagedFile: the file is damaged, or holds objects other than tensors and plain containers.
        OSError: the system does not let it be read.
    """
    verify(path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise DamagedFile(path, "it holds objects other than tensors and plain containers, which are not loaded") from error
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedFile(path, f"it is no whole checkpoint ({reason})") from error
    if not isinstance(checkpoint, dict):
        raise DamagedFile(path, f"it holds a {type(checkpoint).__name__}, expected the parts of a checkpoint")
    return checkpoint


def outline(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Hash of the names, types and sizes in each part of a checkpoint, by its name."""
    state = {f"{STATE}.{name}": value for name, value in checkpoint[STATE].items() if name != OUTLINE}
    parts = {name: value for name, value in checkpoint.items() if name != STATE}
    return {name: short_hash(_outlined(value)) for name, value in {**parts, **state}.items()}


def _outlined(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), list(value.shape)]
    if isinstance(value, Mapping):
        return {str(key): _outlined(entry) for key, entry in value.items()}
    return [_outlined(entry) for entry in value] if isinstance(value, list | tuple) else type(value).__name__


def check_parts(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Check that a checkpoint of a training has all parts that were saved, each with what it had.

    Raises:
        DamagedFile: names the parts that are absent or differ.
    """
    wrong = [name for name, kind in PARTS.items() if not isinstance(checkpoint.get(name), kind)]
    wrong = wrong or [f"{STATE}.{name}" for name in STATE_PARTS if name not in checkpoint[STATE]]
    if wrong:
        raise DamagedFile(path, f"it has no {', '.join(wrong)}")
    recorded = checkpoint[STATE].get(OUTLINE)  # an older version did not record it
    present = outline(checkpoint)
    differing = [name for name in {**(recorded or present), **present} if (recorded or present).get(name) != present.get(name)]
    if differing:
        raise DamagedFile(path, f"names or sizes differ from those that were saved in {', '.join(differing)}")


def tensor_bytes(tree: Any) -> int:
    """Bytes of all tensors in nested containers."""
    if isinstance(tree, torch.Tensor):
        return tree.numel() * tree.element_size()
    if isinstance(tree, dict):
        return sum(tensor_bytes(value) for value in tree.values())
    return sum(tensor_bytes(value) for value in tree) if isinstance(tree, list | tuple) else 0


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest undamaged checkpoint of a folder, None if there is none; a warning names those that are damaged.

    Raises:
        OSError: the system does not let one be read.
    """
    return next(iter(sound_checkpoints(folder)), None)


def sound_checkpoints(folder: Path, set_aside: bool = False) -> Iterator[Path]:
    """The undamaged checkpoints of a folder, newest first; a warning names each damaged one before them.

    Args:
        folder: folder of checkpoints.
        set_aside: whether damaged ones are renamed to `NAME.bad`, so that they are no checkpoints of the run any more.

    Raises:
        OSError: the system does not let one be read.
    """
    is_damaged = False
    for path in reversed(list_checkpoints(folder)):
        try:
            check_parts(load_checkpoint(path, "meta"), path)
        except FileNotFoundError:  # its run removed it meanwhile
            continue
        except DamagedFile as error:
            is_damaged = True
            log.warning("%s%s", error, f"; renamed to {_set_aside(path)}" if set_aside else "")
            continue
        if is_damaged:
            log.warning("%s is used instead", path)
        yield path


def _set_aside(path: Path) -> str:
    """Rename a file to NAME.bad, or NAME.bad2 and so on if there is one; the new name."""
    names = (f"{path.name}.bad{number if number > 1 else ''}" for number in itertools.count(1))
    name = next(name for name in names if not path.with_name(name).exists())
    path.rename(path.with_name(name))
    return name
