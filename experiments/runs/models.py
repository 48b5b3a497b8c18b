"""Trained tokenizers and generators out of run folders and exports, and the tokenizer of a generator."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from experiments.config.errors import ConfigError, TesseraError
from experiments.config.packages import model_packages
from experiments.runs.build import build
from experiments.runs.checkpoints import STATE, load_checkpoint, newest_checkpoint
from experiments.runs.folder import CHECKPOINTS
from experiments.runs.model_folder import ModelFolder, Part, Weights
from tokenizer import pretrained
from tokenizer.files import DIGITS
from tokenizer.fitting import build_for, digest_of_tensors, require_finite
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import Generator

log = logging.getLogger(__name__)


class TokenizerGoneError(TesseraError):
    """The recorded folder of a tokenizer, on which the data or model `owner` depends, does not exist."""

    def __init__(self, folder: str, digest: str, owner: str) -> None:
        self.folder, self.digest, self.owner = folder, digest, owner
        super().__init__(f"{owner} needs the tokenizer {digest} in {folder}, which does not exist; set `tokenizer`")


def load_tokenizer(path: str | Path, weights: Weights = "ema", key: str = "tokenizer") -> tuple[ImageTokenizer, dict[str, Any]]:
    """A trained tokenizer in a run folder or an export, in eval mode on the CPU, with the configuration that builds it.

    Args:
        weights: the averaged or the trained weights of a run folder; an export holds one of them.
        key: configuration key that names the folder, for messages.

    Raises:
        ConfigError: the folder is neither, holds something else, or has no weights that can be read.
    """
    model, config = _load(ModelFolder(path, key), weights, "tokenizer")
    return cast(ImageTokenizer, model), config


def load_generator(path: str | Path, weights: Weights = "ema", key: str = "model") -> tuple[Generator, dict[str, Any]]:
    """A trained generator, see `load_tokenizer`. A run without averaged weights gives the trained ones."""
    model, config = _load(ModelFolder(path, key), weights, "generator")
    return cast(Generator, model), config


def _load(folder: ModelFolder, weights: Weights, part: Part) -> tuple[nn.Module, dict[str, Any]]:
    folder.require(part)
    if folder.is_export:
        return _load_export(folder, ImageTokenizer if part == "tokenizer" else Generator)
    config = folder.config["task"][part]
    checkpoint = newest_checkpoint(folder.path / CHECKPOINTS)
    if checkpoint is None:
        raise folder.error("all of its checkpoints are damaged")
    model = _build(folder, config, part, _state(folder, load_checkpoint(checkpoint, "meta"), weights, part))
    state = _state(folder, load_checkpoint(checkpoint), weights, part)
    with _refusing(folder):
        require_finite(state)
    model.load_state_dict(state)
    return model.eval(), config


def _build(folder: ModelFolder, config: dict[str, Any], part: Part, sizes: dict[str, Any]) -> nn.Module:
    """The model of a run folder, which may come from anywhere: its targets and sizes are checked before anything is built."""
    with _refusing(folder):
        pretrained.require_modules(config, model_packages())
        return build_for(sizes, lambda: build(config, f"task.{part}", model_packages()))


@contextmanager
def _refusing(folder: ModelFolder) -> Iterator[None]:
    """Turn a ValueError about what a folder contains into an error about that folder."""
    try:
        yield
    except TesseraError:
        raise
    except (ValueError, OSError) as error:
        raise folder.error(str(error)) from error


def _load_export(folder: ModelFolder, kind: type[nn.Module]) -> tuple[nn.Module, dict[str, Any]]:
    with _refusing(folder):
        model, config = pretrained.load(folder.path, model_packages())
    if not isinstance(model, kind):
        raise folder.error(f"it holds a {type(model).__name__}; expected an {kind.__name__}")
    return model, config


def _state(folder: ModelFolder, checkpoint: dict[str, Any], weights: Weights, part: str) -> dict[str, Tensor]:
    average = checkpoint[STATE]["average"]
    if weights == "ema" and average is not None:
        state = average
    else:
        own = checkpoint["state_dict"].items()
        state = {name.removeprefix(f"{part}."): value for name, value in own if name.startswith(f"{part}.")}
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise folder.error("its checkpoint holds other objects than tensors by name")
    return dict(state)


def initial_state(model: nn.Module, path: str | Path) -> dict[str, Tensor]:
    """Tensors of another model of the same kind that have a name and shape of `model`; logs how many, and which others there are.

    Args:
        model: model, which may be on the meta device.
        path: run folder or export of the other.

    Raises:
        ConfigError: the folder holds no such model, or no tensor matches.
    """
    folder = ModelFolder(path, "init_from")
    part: Part = "tokenizer" if isinstance(model, ImageTokenizer) else "generator"
    source = _load(folder, "ema", part)[0].state_dict()
    target = model.state_dict()
    matched = {name: value for name, value in source.items() if name in target and target[name].shape == value.shape}
    if not matched:
        raise folder.error(f"none of its tensors has a name and shape of this {part}")
    for title, names in (("missing there", sorted(set(target) - set(matched))), ("unused", sorted(set(source) - set(matched)))):
        log.info("init_from: %d tensors %s%s", len(names), title, f": {', '.join(names)}" if names else "")
    half = 2 * len(matched) < len(target)
    level = logging.WARNING if half else logging.INFO
    log.log(level, "init_from: %d of %d tensors taken from %s%s", len(matched), len(target), path, half * ", less than half")
    if part == "tokenizer":
        log.info("init_from: a discriminator is not taken, it starts from initial weights")
    return matched


def digest_of(module: nn.Module) -> str:
    """Twelve hexadecimal digits of names, dtypes, shapes and bytes of a module's tensors, wherever they came from."""
    return digest_of_tensors(module.state_dict())[:DIGITS]


def tokenizer_of(path: str | Path, override: str | None = None) -> ImageTokenizer:
    """The tokenizer of the generator in a run folder or an export, see `recorded_tokenizer`."""
    return recorded_tokenizer(ModelFolder(path).tokenizer, override, f"the generator {path}")


def recorded_tokenizer(recorded: Mapping[str, Any], override: str | None, owner: str) -> ImageTokenizer:
    """The tokenizer that data or a generator depends on.

    Args:
        recorded: `folder`, `digest` and `weights` of the tokenizer.
        override: the folder that it is in now; None for the recorded one.
        owner: the data or generator in words.

    Raises:
        TokenizerGoneError: no folder is given and the recorded one does not exist.
        ConfigError: the folder holds no tokenizer, or another one.
    """
    folder, digest = override or recorded["folder"], recorded["digest"]
    if override is None and not Path(folder).is_dir():
        raise TokenizerGoneError(folder, digest, owner)
    model = load_tokenizer(folder, "raw" if recorded["weights"] == "raw" else "ema")[0]
    if digest_of(model) != digest:
        reason = f"it has the digest {digest_of(model)}, but {owner} needs the tokenizer {digest}"
        raise ConfigError("tokenizer", folder, reason=reason)
    return model
