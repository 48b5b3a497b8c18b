"""From a run folder or an export to a trained tokenizer or generator, and from a generator to the tokenizer that it speaks for."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from experiments.config.signatures import PACKAGES
from experiments.runs.checkpoints import STATE, load_checkpoint, newest_checkpoint
from experiments.runs.folder import CONFIG, RunFolder
from tokenizer import pretrained
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import Generator

log = logging.getLogger(__name__)

Weights = Literal["ema", "raw"]
PARTS: dict[str, type[nn.Module]] = {"tokenizer": ImageTokenizer, "generator": Generator}
"""What a run trains, by the name that its task has for it."""


class TokenizerGoneError(ValueError):
    """The folder of a tokenizer, as something that was made with it recorded it, is no longer there."""


def load_tokenizer(path: str | Path, weights: Weights = "ema") -> tuple[ImageTokenizer, dict[str, Any]]:
    """A trained tokenizer, in eval mode on the CPU, with the configuration that builds it.

    Args:
        path: a run folder, or a folder written by `python -m experiments.export`.
        weights: of a run folder, the averaged or the trained ones.

    Raises:
        ValueError: the folder is neither, holds something else, or has no checkpoint.
    """
    model, config = _load(Path(path), weights, "tokenizer")
    return cast(ImageTokenizer, model), config


def load_generator(path: str | Path, weights: Weights = "ema") -> tuple[Generator, dict[str, Any]]:
    """A trained generator, see `load_tokenizer`. The averaged weights of a run that kept none are the trained ones."""
    model, config = _load(Path(path), weights, "generator")
    return cast(Generator, model), config


def _load(path: Path, weights: Weights, part: str) -> tuple[nn.Module, dict[str, Any]]:
    if (path / pretrained.CONFIG_FILE).is_file():
        loaded, config = pretrained.load(path)
        if not isinstance(loaded, PARTS[part]):
            raise ValueError(f"{path} holds a {type(loaded).__name__}, not an {PARTS[part].__name__}")
        return loaded, config
    if not (path / CONFIG).is_file():
        raise ValueError(f"{path} is neither a run folder nor an exported {part}: it has no {CONFIG} and no {pretrained.CONFIG_FILE}")
    folder = RunFolder(path)
    config = folder.config["task"].get(part)
    if config is None:
        raise ValueError(f"{path} is a run that trained no {part}, but a {part_of(folder)}")
    checkpoint = newest_checkpoint(folder.checkpoints)
    if checkpoint is None:
        raise ValueError(f"{path} has no checkpoint that can be read; let its run reach `checkpoint_every` updates first")
    model: nn.Module = pretrained.build(config, PACKAGES)
    model.load_state_dict(_state(load_checkpoint(checkpoint), weights, part))
    return model.eval(), config


def part_of(folder: RunFolder) -> str:
    """What a run trains: `tokenizer` or `generator`."""
    task = folder.config["task"]
    return next(part for part in PARTS if part in task)


def _state(checkpoint: dict[str, Any], weights: Weights, part: str) -> dict[str, Any]:
    average = checkpoint[STATE]["average"]
    if weights == "ema" and average is not None:
        return dict(average)
    return {name.removeprefix(f"{part}."): value for name, value in checkpoint["state_dict"].items() if name.startswith(f"{part}.")}


def initialize(model: nn.Module, path: str | Path) -> None:
    """Take from another model of the same kind what has the same name and shape, and say what was taken, missing and unused."""
    part = next(name for name, kind in PARTS.items() if isinstance(model, kind))
    try:
        theirs = _load(Path(path), "ema", part)[0].state_dict()
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"init_from={path}: {error}; change `init_from`") from error
    ours = model.state_dict()
    matched = {name: value for name, value in theirs.items() if name in ours and ours[name].shape == value.shape}
    if not matched:
        raise ValueError(f"init_from={path}: none of its tensors has a name and shape of this {part}; change `init_from`")
    model.load_state_dict({**ours, **matched})
    for title, names in (("missing there", sorted(set(ours) - set(matched))), ("unused", sorted(set(theirs) - set(matched)))):
        log.info("init_from: %d tensors %s%s", len(names), title, f": {', '.join(names)}" if names else "")
    log.info("init_from: %d tensors taken from %s", len(matched), path)


def digest_of(module: nn.Module) -> str:
    """Twelve hexadecimal digits of names, dtypes, shapes and bytes of a module's tensors, wherever they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def described(path: str | Path) -> dict[str, Any]:
    """What a run folder or an export records of its model: `tokens`, `classes` and, of a generator, `tokenizer`, where it does."""
    path = Path(path)
    if (path / pretrained.CONFIG_FILE).is_file():
        return dict(json.loads((path / pretrained.CONFIG_FILE).read_text())["trained_with"])
    return RunFolder(path).described


def exported_weights(path: str | Path) -> Weights:
    """Which weights an export holds."""
    return "raw" if described(path).get("weights") == "raw" else "ema"


def tokenizer_of(path: str | Path, override: str | None = None) -> ImageTokenizer:
    """The tokenizer whose indices a generator makes, see `recorded_tokenizer`.

    Args:
        path: of the generator, a run folder or an export.
        override: where the tokenizer lies now; None for where it lay when the generator was trained.
    """
    recorded = described(path).get("tokenizer")
    if recorded is None:
        raise ValueError(f"{path} does not record the tokenizer whose indices it makes: expected a run folder or an export of a generator")
    return recorded_tokenizer(recorded, override, f"the generator {path}")


def recorded_tokenizer(recorded: Mapping[str, Any], override: str | None, owner: str) -> ImageTokenizer:
    """The tokenizer that something was made with.

    Args:
        recorded: its `folder`, `digest` and `weights`, as the thing that was made keeps them.
        override: the folder that it lies in now; None for the recorded one.
        owner: what was made, for messages.

    Raises:
        TokenizerGoneError: no folder is given and the recorded one is not there.
        ValueError: the folder holds no tokenizer, or another one.
    """
    folder, digest = override or recorded["folder"], recorded["digest"]
    if override is None and not Path(folder).is_dir():
        raise TokenizerGoneError(f"{owner} was made with the tokenizer {digest} in {folder}, which is gone; set `tokenizer`")
    try:
        model = load_tokenizer(folder, "raw" if recorded["weights"] == "raw" else "ema")[0]
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"tokenizer={folder}: {error}; change `tokenizer`") from error
    found = digest_of(model)
    if found != digest:
        raise ValueError(f"tokenizer={folder} has the digest {found}, but {owner} was made with the tokenizer {digest}; change `tokenizer`")
    return model
