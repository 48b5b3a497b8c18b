"""The kind of what a path holds, by its names alone, for messages about a path that another setting takes. Imports nothing heavy."""

import mimetypes
import os
from itertools import islice
from pathlib import Path

FOLDERS_SEARCHED = 20
MODELS = "`model`, `tokenizer`, `init_from`"


def kind_of_path(path: str | Path) -> str:
    """What a path holds and which settings take it, in words: `a run folder, which ... take`; empty if that is not known."""
    path = Path(path)
    try:
        return _of_folder(path) if path.is_dir() else _of_file(path) if path.is_file() else ""
    except OSError:
        return ""


def as_reason(path: str | Path) -> str:
    """`it is` and what a path holds; empty if that is not known."""
    kind = kind_of_path(path)
    return f"it is {kind}" if kind else ""


def kind_of_model(path: Path) -> str:
    """The same of a folder with a model, whatever else is in it; empty for any other path."""
    if (path / "config.yaml").is_file() and ((path / "environment.json").is_file() or (path / "checkpoints").is_dir()):
        return f"a run folder, which {MODELS}, `run` and `resume` take"
    if (path / "config.json").is_file() and (path / "model.safetensors").is_file():
        return f"an exported model, which {MODELS} take"
    return ""


def _of_folder(path: Path) -> str:
    if kind := kind_of_model(path):
        return kind
    if any(path.glob("*.ckpt")):
        return f"the checkpoints of the run folder {path.parent}, which {MODELS}, `run` and `resume` take"
    for folder, _, names in islice(os.walk(path), FOLDERS_SEARCHED):
        if any(_is_image(name) and Path(folder, name).is_file() for name in names):
            return "a folder of images, which `data.root` takes" + f" ({folder} has some)" * (Path(folder) != path)
    return ""


def _of_file(path: Path) -> str:
    parent, name = path.absolute().parent, path.name
    if name.endswith(".ckpt"):
        return f"a checkpoint of the run folder {parent.parent}, which {MODELS}, `run` and `resume` take"
    if name in ("config.yaml", "config.json", "model.safetensors") and (of_folder := _of_folder(parent)):
        return f"a file of {parent}, {of_folder}"
    if name.endswith(".safetensors") and _has_tokens(path):
        return "a token cache, which `data.file` and `inspect` take"
    if name.endswith(".npz"):
        return "an npz file, which `reference` takes"
    return "an image, which `data.root` takes" if _is_image(name) else ""


def _is_image(name: str) -> bool:
    return (mimetypes.guess_type(name)[0] or "").startswith("image/")


def _has_tokens(path: Path) -> bool:
    """Whether the beginning of a safetensors file names the arrays of a token cache."""
    with path.open("rb") as file:
        return b'"train/indices"' in file.read(1 << 20)
