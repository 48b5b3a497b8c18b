"""A folder of a trained model, a run folder or an export, and what it records of the model. Imports no torch."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

from experiments.config.errors import ConfigError
from experiments.runs.folder import CHECKPOINT_PATTERN, CHECKPOINTS, CONFIG, ENVIRONMENT
from tokenizer.files import DIGITS, sha256

Part = Literal["tokenizer", "generator"]
Weights = Literal["ema", "raw"]
PARTS: tuple[Part, ...] = ("tokenizer", "generator")  # what a run trains, by the name of the task's argument
RECORDED = ("image_size", "run", "tokens", "classes", "tokenizer")  # of a run
EXPORTED = "config.json"  # as `tokenizer.pretrained` writes it, which imports torch
EXPORTED_WEIGHTS = "model.safetensors"


class ModelFolder:
    """A run folder or an export, which the configuration key `key` names; a leading `~` is the home folder."""

    def __init__(self, path: str | Path, key: str = "model") -> None:
        self.path = Path(path).expanduser()
        self.key = key

    @property
    def is_export(self) -> bool:
        """Whether it was written by `python -m experiments.export`."""
        return (self.path / EXPORTED).is_file()

    @property
    def is_run(self) -> bool:
        """Whether it is a run folder."""
        return not self.is_export and (self.path / CONFIG).is_file()

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration of a run."""
        return self._read(CONFIG)

    @cached_property
    def trained_with(self) -> dict[str, Any]:
        """Record of the model: `image_size`, `tokens`, `classes`, `run`, of an export `weights`, of a generator `tokenizer`.

        What an older version did not record is absent.
        """
        if self.is_export:
            return dict(self._read(EXPORTED).get("trained_with") or {})
        self._require_model()
        environment = self._read(ENVIRONMENT) if (self.path / ENVIRONMENT).is_file() else {}
        known = {**environment, "image_size": self.config.get("image_size"), "run": self.path.resolve().name}
        return {name: known[name] for name in RECORDED if known.get(name, self) is not self}

    def setting(self, name: str) -> Any:
        """One entry of `trained_with`; a ConfigError if it is absent."""
        if name not in self.trained_with:
            raise self.error(f"does not record `{name}`; expected a model of this version")
        return self.trained_with[name]

    @property
    def part(self) -> Part:
        """What the model is."""
        if self.is_run:
            trained = next((part for part in PARTS if part in (self.config.get("task") or {})), None)
            if trained is None:
                raise self.error(f"its {CONFIG} has no tokenizer and no generator")
            return trained
        return "generator" if "tokenizer" in self.trained_with else "tokenizer"

    @property
    def tokens(self) -> dict[str, Any]:
        """Fields of the TokenSpec of the model."""
        return dict(self.setting("tokens"))

    @property
    def tokenizer(self) -> dict[str, Any]:
        """The tokenizer of a generator: `folder`, `digest` and `weights`."""
        self.require("generator")
        return dict(self.setting("tokenizer"))

    @property
    def weights(self) -> Weights | None:
        """The weights that an export holds; None for a run, which has both."""
        if self.is_run:
            return None
        return "raw" if self.trained_with.get("weights") == "raw" else "ema"

    @property
    def weights_file(self) -> Path:
        """File of the weights: that of an export, or the newest checkpoint of a run; a ConfigError if there is none."""
        if self.is_export:
            if not (self.path / EXPORTED_WEIGHTS).is_file():
                raise self.error(f"it has no {EXPORTED_WEIGHTS}; expected a folder written by `python -m experiments.export`")
            return self.path / EXPORTED_WEIGHTS
        self._require_model()
        checkpoints = sorted((self.path / CHECKPOINTS).glob(CHECKPOINT_PATTERN))
        if not checkpoints:
            raise self.error("it has no checkpoint", advice="let its run reach `checkpoint_every` updates")
        return checkpoints[-1]

    def weights_digest(self) -> str:
        """Twelve hexadecimal digits of the bytes of `weights_file`."""
        return sha256(self.weights_file)[:DIGITS]

    def require(self, part: Part) -> None:
        """Refuse a folder that is neither a run folder nor an export, holds another kind of model, or has no weights."""
        self._require_model(part)
        if self.part != part:
            raise self.error(f"it holds a {self.part}; expected a {part}")
        _ = self.weights_file

    def require_weights(self, weights: str) -> None:
        """Refuse an export of other weights than `weights`; a run has both."""
        held = self.trained_with.get("weights", weights) if self.is_export else weights
        if held != weights:
            raise ConfigError("weights", weights, reason=f"{self.path} holds the {held} weights", advice=f"set weights={held}")

    def error(self, reason: str, advice: str | None = None) -> ConfigError:
        """An error about this folder."""
        return ConfigError(self.key, str(self.path), reason=reason, advice=advice)

    def _require_model(self, part: str = "model") -> None:
        if not self.path.exists():
            raise ConfigError(self.key, str(self.path), expected="a file or folder that exists")
        if not (self.is_run or self.is_export):
            raise self.error(f"it has no {CONFIG} and no {EXPORTED}; expected a run folder or an exported {part}")

    def _read(self, name: str) -> dict[str, Any]:
        """A file of keys and values, YAML or JSON."""
        self._require_model()
        try:
            text = (self.path / name).read_text()
            content = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise self.error(f"its {name} cannot be read ({' '.join(str(error).split())})") from error
        if not isinstance(content, dict):
            raise self.error(f"its {name} is not that of a run or of a model")
        return content
