"""From a plain configuration to an object, and from an object to a folder of weights and back.

A configuration is a tree of dicts in which `_target_` names a class. It comes from a file that may be somebody else's,
so only targets below an allowed package are built, and only keys that the constructor knows.
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
from tokenizer.interfaces import TokenSpec

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


def build(config: Any, packages: tuple[str, ...] = ("tokenizer",)) -> Any:
    """Build the object that `config` describes, inner ones first.

    Args:
        config: a dict with `_target_` and the constructor's arguments, or a list of such, or a plain value, which is passed through.
        packages: top-level packages that a `_target_` may lie in.

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
    """The class or function that a dotted path names.

    Raises:
        ValueError: the path leads outside `packages` or to nothing.
    """
    if target.split(".")[0] not in packages:
        raise ValueError(f"_target_ {target} lies outside {', '.join(packages)}: it is not built")
    module_name, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"_target_ {target} does not exist: {error}") from error
    if getattr(found, "__module__", "").split(".")[0] not in packages:
        raise ValueError(f"_target_ {target} is only imported there from outside {', '.join(packages)}: it is not built")
    return found


def save(module: nn.Module, config: Mapping[str, Any], folder: str | Path, trained_with: Mapping[str, Any]) -> None:
    """Write weights and configuration to `folder`, each beside its place and then renamed.

    Args:
        module: what `build(config)` gives, trained.
        config: plain containers.
        folder: made if need be.
        trained_with: what a user should know about the weights, such as image_size; plain values.
    """
    folder = Path(folder)
    with files.atomic(folder / WEIGHTS_FILE) as path:
        save_file({name: tensor.detach().contiguous().cpu() for name, tensor in module.state_dict().items()}, path)
    files.write_text(folder / CONFIG_FILE, json.dumps({"trained_with": dict(trained_with), "model": config}, indent=2) + "\n")


def load(folder: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Build what `save` wrote, with its weights, in eval mode on the CPU; and the configuration that builds it.

    Raises:
        FileNotFoundError: the folder lacks one of the two files.
        ValueError: the configuration names something other than modules of this package, or the weights are damaged or of another
            configuration.
    """
    folder = Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}: is it a folder written by `python -m experiments.export`?")
    config = json.loads((folder / CONFIG_FILE).read_text())["model"]
    _require_modules(config)
    module: nn.Module = build(config)
    try:
        module.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder / WEIGHTS_FILE} does not fit {CONFIG_FILE} beside it: {' '.join(str(error).split())}") from error
    return module.eval(), config


def _require_modules(config: Any) -> None:
    """Refuse somebody else's configuration that names a function, which could write files, before anything of it is built."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            target = locate(config["_target_"], ("tokenizer",))
            if not (isinstance(target, type) and issubclass(target, nn.Module | TokenSpec)):
                raise ValueError(f"_target_ {config['_target_']} is no module of a network: it is not built")
        config = list(config.values())
    for entry in config if isinstance(config, list) else []:
        _require_modules(entry)


class Pretrained(nn.Module):
    """A model that is saved as two plain files and loaded from them."""

    def save_pretrained(self, folder: str | Path, config: dict[str, Any], trained_with: dict[str, Any]) -> None:
        """Write `model.safetensors` and `config.json`, the resolved configuration that builds this model."""
        save(self, config, folder, trained_with)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load an exported model, in eval mode on the CPU.

        Raises:
            FileNotFoundError: the folder is no export.
            ValueError: the export holds something else.
        """
        module, _ = load(folder)
        if not isinstance(module, cls):
            raise ValueError(f"{folder} holds a {type(module).__name__}, not an {cls.__name__}")
        return module
