"""Building objects from plain configurations, and saving and loading trained models.

A configuration is a tree of dicts in which `_target_` names a class. It may come from an untrusted file, so only targets in allowed
packages are built, and only with arguments that the constructor has.
"""

import importlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from tokenizer import files
from tokenizer.interfaces import Configurable, TokenSpec

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
PACKAGES = ("tokenizer",)


def build(config: Any, packages: tuple[str, ...] = PACKAGES) -> Any:
    """Build the object of a configuration, inner objects first.

    Args:
        config: dict with `_target_` and the constructor's arguments, or a list of such dicts; plain values are returned unchanged.
        packages: top-level packages that a `_target_` may be in.

    Raises:
        ValueError: a target outside `packages`, an unknown target, or a key that the constructor does not have.
    """
    if isinstance(config, list | tuple):
        return [build(entry, packages) for entry in config]
    if not isinstance(config, Mapping):
        return config
    arguments = {key: build(value, packages) for key, value in config.items() if key != "_target_"}
    if "_target_" not in config:
        return arguments
    constructor = locate(config["_target_"], packages)
    known = inspect.signature(constructor).parameters
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise ValueError(f"{config['_target_']} has no argument {', '.join(unknown)}; it has {', '.join(known)}")
    return constructor(**arguments)


def locate(target: str, packages: tuple[str, ...]) -> Any:
    """Class or function with a dotted path.

    Raises:
        ValueError: the path is outside `packages` or does not exist.
    """
    if target.split(".")[0] not in packages:
        raise ValueError(f"_target_ {target} is outside {', '.join(packages)}: it is not built")
    module_name, _, name = target.rpartition(".")
    try:
        item = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"_target_ {target} does not exist: {error}") from error
    if getattr(item, "__module__", "").split(".")[0] not in packages:
        raise ValueError(f"_target_ {target} is imported there from outside {', '.join(packages)}: it is not built")
    return item


def save(module: Configurable, folder: str | Path, trained_with: Mapping[str, Any] | None = None) -> None:
    """Write `model.safetensors` and `config.json`, each atomically.

    Args:
        module: model of configurable parts.
        folder: output folder, created if missing.
        trained_with: information for users of the weights, such as image_size; plain values.

    Raises:
        ValueError: an argument of the model's constructors cannot be described, see `Configurable.config`.
    """
    folder, description = Path(folder), {"trained_with": dict(trained_with or {}), "model": module.config()}
    with files.atomic(folder / WEIGHTS_FILE) as path:
        save_file({name: tensor.detach().contiguous().cpu() for name, tensor in module.state_dict().items()}, path)
    files.write_text(folder / CONFIG_FILE, json.dumps(description, indent=2) + "\n")


def load(folder: str | Path, packages: tuple[str, ...] = PACKAGES) -> tuple[nn.Module, dict[str, Any]]:
    """Model of a folder written by `save`, in eval mode on the CPU, and its configuration.

    Args:
        folder: folder with `model.safetensors` and `config.json`.
        packages: top-level packages that a `_target_` may be in; importing a module of a package runs its code.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: the configuration contains a target outside `packages` or one that is no module, or the weights are damaged or do
            not fit the configuration.
    """
    folder = Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}: is it a folder written by `python -m experiments.export`?")
    config = json.loads((folder / CONFIG_FILE).read_text())["model"]
    _require_modules(config, packages)
    module: nn.Module = build(config, packages)
    try:
        module.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder / WEIGHTS_FILE} does not fit {CONFIG_FILE} beside it: {' '.join(str(error).split())}") from error
    return module.eval(), config


def _require_modules(config: Any, packages: tuple[str, ...]) -> None:
    """Refuse functions, which could write files, before anything is built: the configuration may come from an untrusted source."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            target = locate(config["_target_"], packages)
            if not (isinstance(target, type) and issubclass(target, nn.Module | TokenSpec)):
                raise ValueError(f"_target_ {config['_target_']} is no module of a network: it is not built")
        config = list(config.values())
    for entry in config if isinstance(config, list) else []:
        _require_modules(entry, packages)


class Pretrained(Configurable):
    """Model that is saved as two plain files and loaded from them."""

    def save_pretrained(self, folder: str | Path, trained_with: Mapping[str, Any] | None = None) -> None:
        """Write `model.safetensors` and `config.json` to `folder`; see `save`."""
        save(self, folder, trained_with)

    @classmethod
    def from_pretrained(cls, folder: str | Path, packages: tuple[str, ...] = PACKAGES) -> Self:
        """Load an exported model, in eval mode on the CPU; see `load`.

        Raises:
            FileNotFoundError: the folder is no export.
            ValueError: the export contains a different class, or `load` refuses it.
        """
        module, _ = load(folder, packages)
        if not isinstance(module, cls):
            raise ValueError(f"{folder} is an export of {type(module).__name__}, expected {cls.__name__}")
        return module
