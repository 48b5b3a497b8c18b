"""A folder of a trained model, a run folder or an export, and what it records of the model. Imports no torch."""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from experiments.config.errors import ConfigError, DamagedFile
from experiments.config.parsing import read_mapping
from experiments.runs.folder import CHECKPOINTS, CONFIG, ENVIRONMENT
from experiments.runs.integrity import is_whole, list_checkpoints
from experiments.runs.kinds import as_reason
from tokenizer.files import DIGITS, other_kind, sha256

Part = Literal["tokenizer", "generator"]
Weights = Literal["ema", "raw"]
PARTS: tuple[Part, ...] = ("tokenizer", "generator")  # what a run trains, by the name of the task's argument
RECORDED = ("image_size", "run", "tokens", "classes", "tokenizer")  # of a run
EXPORTED = "config.json"  # as `tokenizer.pretrained` writes it, which imports torch
EXPORTED_WEIGHTS = "model.safetensors"


class ModelFolder:
    """A run folder or an export, which the configuration key `key` names."""

    def __init__(self, path: str | Path, key: str = "model") -> None:
        self.path = Path(path)
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
        """The resolved configuration of a run; a ConfigError if it is damaged."""
        config = self._read(CONFIG)
        task = config.get("task") or {}
        if not isinstance(task, dict) or not all(isinstance(task.get(part, {}), dict) for part in PARTS):
            raise self.error(f"the entry `task` of its {CONFIG} is not that of a run")
        return config

    @cached_property
    def trained_with(self) -> dict[str, Any]:
        """Record of the model: `image_size`, `tokens`, `classes`, `run`, of an export `weights`, of a generator `tokenizer`.

        What an older version did not record is absent.
        """
        if self.is_export:
            record = self._read(EXPORTED).get("trained_with") or {}
            if not isinstance(record, dict):
                raise self.error(f"the entry `trained_with` of its {EXPORTED} is a {type(record).__name__}, expected keys and values")
            return dict(record)
        self._require_model()
        environment = self._read(ENVIRONMENT) if (self.path / ENVIRONMENT).is_file() else {}
        known = {**environment, "image_size": self.config.get("image_size"), "run": self.path.resolve().name}
        return {name: known[name] for name in RECORDED if known.get(name, self) is not self}

    def setting(self, name: str) -> Any:
        """One entry of `trained_with`; a ConfigError if it is absent."""
        if name not in self.trained_with:
            raise self.error(f"does not record `{name}`; expected a model of this version")
        return self.trained_with[name]

    def _mapping(self, name: str, needed: tuple[str, ...]) -> dict[str, Any]:
        """An entry of `trained_with` that has the keys `needed`."""
        record = self.setting(name)
        if not isinstance(record, dict) or not set(needed) <= set(record):
            raise self.error(f"its record of `{name}` is damaged", advice=f"expected the keys {', '.join(needed)}")
        return dict(record)

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
        return self._mapping("tokens", ("codebook_size", "groups"))

    @property
    def tokenizer(self) -> dict[str, Any]:
        """The tokenizer of a generator: `folder`, `digest` and `weights`."""
        self.require("generator")
        return self._mapping("tokenizer", ("folder", "digest", "weights"))

    @property
    def weights(self) -> Weights | None:
        """The weights that an export holds; None for a run, which has both."""
        if self.is_run:
            return None
        return "raw" if self.trained_with.get("weights") == "raw" else "ema"

    @property
    def weights_file(self) -> Path:
        """File of the weights: that of an export, or the newest undamaged checkpoint of a run; a ConfigError if there is none."""
        if self.is_export:
            if not (self.path / EXPORTED_WEIGHTS).is_file():
                raise self.error(f"it has no {EXPORTED_WEIGHTS}; expected a folder written by `python -m experiments.export`")
            return self.path / EXPORTED_WEIGHTS
        self._require_model()
        checkpoints = list_checkpoints(self.path / CHECKPOINTS)[::-1]
        if not checkpoints:
            raise self.error("it has no checkpoint", advice="let its run reach `checkpoint_every` updates")
        return next(filter(is_whole, checkpoints), checkpoints[0])

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

    def idle_weights(self, weights: str) -> dict[str, str]:
        """The setting `weights`, with the reason, where the model has one kind of weights alone and they are others."""
        has_average = self.weights != "raw" if self.is_export else self.part == "tokenizer" or bool(self.config.get("ema_decay"))
        return {"weights": f"{self.path} has no averaged weights"} if weights == "ema" and not has_average else {}

    def error(self, reason: str, advice: str | None = None) -> ConfigError:
        """An error about this folder."""
        return ConfigError(self.key, str(self.path), reason=reason, advice=advice)

    def _require_model(self, part: str = "model") -> None:
        if not self.path.exists():
            raise ConfigError(self.key, str(self.path), expected="a file or folder that exists")
        for name in (CONFIG, EXPORTED, EXPORTED_WEIGHTS):
            if kind := other_kind(self.path / name):
                raise self.error(f"its {name} is {kind}; expected a regular file")
        if not (self.is_run or self.is_export):
            reason = as_reason(self.path) or f"it has no {CONFIG} and no {EXPORTED}"
            raise self.error(f"{reason}; expected a run folder or an exported {part}")

    def _read(self, name: str) -> dict[str, Any]:
        """A file of keys and values, YAML or JSON."""
        self._require_model()
        try:
            return read_mapping(self.path / name)
        except (DamagedFile, OSError) as error:
            reason = error.reason if isinstance(error, DamagedFile) else f"cannot be read ({error.strerror})"
            raise self.error(f"its {name} {reason}") from error
