"""Building objects from plain configurations, and saving and loading trained models.

A configuration is a tree of dicts in which `_target_` names a class. It may come from an untrusted file, so only targets in allowed
packages are built, and only with arguments that the constructor has.
"""

import importlib
import inspect
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from tokenizer import files
from tokenizer.fitting import build_for, require_finite, stored_sizes
from tokenizer.interfaces import Configurable, TokenSpec

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
WEIGHTS_SEAL = "model.safetensors sha256"  # entry of CONFIG_FILE
RUN_FILE = "config.yaml"  # of a run folder
PACKAGES = ("tokenizer",)
MAX_DESCRIPTION_BYTES = 1 << 24
MAX_ENTRIES, MAX_INTEGER = 4096, 1 << 63  # of a list or mapping, and of a number in a description
MAX_SHOWN = 200  # characters

log = logging.getLogger(__name__)


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
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")) or "." not in target:
        raise ValueError(f"_target_ {target!r} is no dotted path of a class")
    if target.split(".")[0] not in packages:
        raise ValueError(f"_target_ {target} is outside {', '.join(packages)}: it is not built")
    module_name, _, name = target.rpartition(".")
    try:
        item = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"_target_ {target} does not exist: {error}") from error
    if str(getattr(item, "__module__", "")).split(".")[0] not in packages:
        raise ValueError(f"_target_ {target} is imported there from outside {', '.join(packages)}: it is not built")
    return item


def require_modules(config: Any, packages: tuple[str, ...]) -> None:
    """Check that every `_target_` in the description of a model, which may come from an untrusted file, is a class of modules.

    A function could write files or start processes. Targets outside `packages` are refused before anything is imported. Long lists and
    large numbers are refused too, because constructors compute with them before they make a module.

    Raises:
        ValueError: names the target, or the length or number.
    """
    _check_values(config)
    targets = list(_targets(config))
    for target in targets:
        if not isinstance(target, str) or target.split(".")[0] not in packages:
            locate(target, packages)  # refuses it without an import
    for target in targets:
        item = locate(target, packages)
        if not (isinstance(item, type) and issubclass(item, nn.Module | TokenSpec)):
            raise ValueError(f"_target_ {target} is no module of a network: it is not built")


def _check_values(config: Any) -> None:
    inner = list(config.values()) if isinstance(config, Mapping) else config if isinstance(config, list | tuple) else []
    if len(inner) > MAX_ENTRIES:
        raise ValueError(f"a list or mapping in the description of the model has {len(inner):,} entries, expected at most {MAX_ENTRIES:,}")
    if isinstance(config, int) and abs(config) >= MAX_INTEGER:
        raise ValueError(f"the description of the model has the number {config}, expected one of at most 63 bits")
    for entry in inner:
        _check_values(entry)


def _targets(config: Any) -> Iterator[Any]:
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield config["_target_"]
        config = list(config.values())
    for entry in config if isinstance(config, list | tuple) else ():
        yield from _targets(entry)


def save(module: Configurable, folder: str | Path, trained_with: Mapping[str, Any] | None = None) -> None:
    """Write `model.safetensors` and `config.json`, each atomically. The latter has the checksums of both.

    Args:
        module: model of configurable parts.
        folder: output folder, created if missing.
        trained_with: information for users of the weights, such as image_size; plain values.

    Raises:
        ValueError: an argument of the model's constructors cannot be described, see `Configurable.config`, or a weight is not finite.
    """
    folder = Path(folder)
    description: dict[str, Any] = {"trained_with": dict(trained_with or {}), "model": module.config()}
    weights = {name: tensor.detach().contiguous().cpu() for name, tensor in module.state_dict().items()}
    require_finite(weights)
    # Written here: an error of safetensors has no number of the system, and so none for a full disk.
    files.write_bytes(folder / WEIGHTS_FILE, save_tensors(weights))
    description[WEIGHTS_SEAL] = files.sha256(folder / WEIGHTS_FILE)
    files.write_text(folder / CONFIG_FILE, json.dumps(files.sealed(description), indent=2) + "\n")


def load(folder: str | Path, packages: tuple[str, ...] = PACKAGES) -> tuple[nn.Module, dict[str, Any]]:
    """Model of a folder written by `save`, in eval mode on the CPU, and its configuration.

    Both files are verified by their checksums, which those of earlier versions do not have.

    Args:
        folder: folder with `model.safetensors` and `config.json`.
        packages: top-level packages that a `_target_` may be in; importing a module of a package runs its code.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: the configuration contains a target outside `packages` or one that is no module, or the weights are damaged, not
            finite, or do not fit the configuration.
    """
    folder = Path(folder)
    _require_files(folder)
    description = _description(folder / CONFIG_FILE)
    config, path = description["model"], folder / WEIGHTS_FILE
    require_modules(config, packages)
    if WEIGHTS_SEAL not in description:
        log.warning("%s has no checksum, as those of earlier versions: damage is not noticed", path)
    elif files.sha256(path) != description[WEIGHTS_SEAL]:
        raise ValueError(f"{path} is damaged or of another export: its SHA-256 is not the one in {CONFIG_FILE} beside it; export again")
    try:
        module = build_for(stored_sizes(path), lambda: build(config, packages))
        weights = load_file(path)
        require_finite(weights)
        module.to(_float_type(weights)).load_state_dict(weights)
    except (RuntimeError, SafetensorError, ValueError) as error:
        raise ValueError(f"{path} does not fit {CONFIG_FILE} beside it: {' '.join(str(error).split())}") from error
    return module.eval(), config


def _float_type(weights: Mapping[str, Tensor]) -> torch.dtype:
    """The float type of all weights, fp32 if they differ or there are none."""
    types = {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()}
    return types.pop() if len(types) == 1 else torch.float32


def _require_files(folder: Path) -> None:
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if kind := files.other_kind(folder / name):
            raise FileNotFoundError(f"{folder / name} is {kind}, expected a regular file")
        if not (folder / name).is_file():
            is_run = (folder / RUN_FILE).is_file()
            advice = f"a run folder; `python -m experiments.export run={folder}` makes one" if is_run else "written by that verb"
            raise FileNotFoundError(f"{folder} has no {name}, expected a folder of `python -m experiments.export`; it is {advice}")


def _description(path: Path) -> dict[str, Any]:
    """Content of a configuration file with a model."""
    try:
        if path.stat().st_size > MAX_DESCRIPTION_BYTES:
            raise ValueError(f"it has {path.stat().st_size:,} bytes, expected at most {MAX_DESCRIPTION_BYTES:,}")
        text = path.read_bytes().decode()
        content = json.loads(text, object_pairs_hook=_different)
        if not isinstance(content, dict):
            raise ValueError(f"it contains a {type(content).__name__}")
        content = files.unsealed(content, text)
        if not isinstance(content.get("model"), dict) or "_target_" not in content["model"]:
            raise ValueError("expected the entry `model` with a `_target_`")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return content


def _different(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError(f"of the keys {', '.join(name for name, _ in pairs)[:MAX_SHOWN]} one is written twice")
    return content


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
