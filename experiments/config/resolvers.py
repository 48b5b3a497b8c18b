"""Relations between keys that YAML files state: `groups: ${divisor_of:groups,latent_dim}`.

A resolver takes names of keys, dotted from the root, not values, so that its message can name the key to change.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from omegaconf import Container, ListConfig, OmegaConf

from experiments.config.signatures import ConfigError, show
from tokenizer.weights import find_weights


def register() -> None:
    """Make the resolvers known to OmegaConf; doing so again changes nothing."""
    resolvers: dict[str, Callable[..., Any]] = {
        "divisor_of": divisor_of,
        "at_least": at_least,
        "require_weights": require_weights,
        "length": length,
        "trained_with": trained_with,
        "tokens_of": tokens_of,
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def divisor_of(key: str, of: str, *, _root_: Container) -> int:
    """The value of `key`, a positive whole number that divides the value of `of`."""
    value: int = at_least(key, 1, _root_=_root_)
    whole: int = at_least(of, 1, _root_=_root_)
    if whole % value:
        divisors = [number for number in range(1, whole + 1) if whole % number == 0]
        near = [str(max(d for d in divisors if d < value)), *(str(d) for d in divisors if d > value)][:2]
        nearest = f"nearest divisor{'s' if len(near) > 1 else ''}: {' and '.join(near)}"
        raise ConfigError(f"{key}={value} does not divide {of}={whole}; {nearest}; change `{key}` or `{of}`")
    return value


def at_least(key: str, minimum: int | float, *, _root_: Container) -> Any:
    """The value of `key`, no smaller than `minimum`; a whole number if the minimum is one."""
    value = _select(_root_, key)
    whole = isinstance(minimum, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or value < minimum:
        expected = f"a {'whole ' if whole else ''}number of at least {minimum}"
        raise ConfigError(f"{key}={show(value)}: expected {expected}; change `{key}`")
    return value


def require_weights(name: str, without: str = "", *, _root_: Container) -> str:
    """`name`, if that file of weights is on this machine or if the option `without`, as key=value, is chosen already."""
    key, _, value = without.partition("=")
    chosen = OmegaConf.select(_root_, key) if key else None
    if chosen is None or chosen != yaml.safe_load(value):
        find_weights(name, without)
    return name


def length(key: str, *, _root_: Container) -> int:
    """The number of entries of the list at `key`."""
    value = _select(_root_, key)
    if not isinstance(value, ListConfig):
        raise ConfigError(f"{key}={show(value)}: expected a list; change `{key}`")
    return len(value)


def trained_with(key: str, setting: str, cache: str = "", *, _root_: Container) -> Any:
    """A setting of the run folder or of the exported model that the value of `key` names; of several the first.

    Where that is null, of the token cache that the key `cache` names, if there is such a key.
    """
    value = _select(_root_, key)
    if isinstance(value, ListConfig) and value:
        value = value[0]
    if value is None and cache:
        file = _select(_root_, cache)
        if file is None:
            raise ConfigError(f"{key}=null: expected a run folder or an exported tokenizer, or {cache}=FILE; change `{key}` or `{cache}`")
        from experiments.tokens.cache import read_header  # and with it numpy, which other configurations need not load

        return read_header(str(file), cache).about[setting]
    return _described(key, value, setting)


def tokens_of(field: str, *, _root_: Container) -> Any:
    """A field of the TokenSpec of `data`, or the `image_size` that it is for.

    Read from the cache `data.file`, or from the tokenizer `data.tokenizer`, a run folder or an export. Classes are the pictures', not the
    tokenizer's: `data.num_classes` says how many there are where there is no cache.
    """
    data = _select(_root_, "data")
    if "file" in data:
        from experiments.tokens.cache import read_header

        header = read_header(str(data["file"]))
        return header.about[field] if field == "image_size" else header.tokens[field]
    if "tokenizer" not in data:
        name = str(data.get("_target_")).rpartition(".")[2]
        raise ConfigError(f"data={name}: it has no tokens; expected data=indices data.file=FILE or data=online data.tokenizer=FOLDER")
    if field == "num_classes":
        return at_least("data.num_classes", 0, _root_=_root_)
    if field == "image_size":
        return _described("data.tokenizer", data["tokenizer"], field)
    return _described("data.tokenizer", data["tokenizer"], "tokens")[field]


def _described(key: str, value: Any, setting: str) -> Any:
    """A setting that a run folder or an exported model was made with; `tokens` is what the run found its tokens to be."""
    if not isinstance(value, str) or not Path(value).expanduser().exists():
        raise ConfigError(f"{key}={show(value)}: expected a file or folder that exists; change `{key}`")
    folder = Path(value).expanduser()
    in_run = "environment.json" if setting == "tokens" else "config.yaml"
    for name, part in ((in_run, None), ("config.json", "trained_with")):
        if (folder / name).is_file():
            settings = _read(folder / name, key)
            settings = settings if part is None else settings.get(part) or {}
            if setting in settings:
                return settings[setting]
            raise ConfigError(f"{key}={folder}: its {name} does not say `{setting}`: is it a tokenizer, of this version? change `{key}`")
    raise ConfigError(f"{key}={folder}: expected a run folder or an exported model, it has no {in_run} and no config.json; change `{key}`")


def _read(file: Path, key: str) -> dict[str, Any]:
    """A file of keys and values, YAML or JSON, in a folder that the value of `key` names."""
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{key}={file.parent}: its {file.name} cannot be read: {' '.join(str(error).split())}; change `{key}`") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{key}={file.parent}: its {file.name} is not that of a run or of a model; change `{key}`")
    return content


def _select(root: Container, key: str) -> Any:
    missing = object()
    value = OmegaConf.select(root, key, default=missing)
    if value is missing:
        raise ConfigError(f"there is no key `{key}`, which a relation of this configuration names")
    return value
