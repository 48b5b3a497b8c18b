"""Relations between keys that YAML files state: `groups: ${divisor_of:groups,latent_dim}`.

A resolver takes names of keys, dotted from the root, not values, so that its message can name the key to change.
"""

import importlib
from collections.abc import Callable
from typing import Any

import yaml
from omegaconf import Container, ListConfig, OmegaConf

from experiments.config.errors import ConfigError
from experiments.config.signatures import show
from tokenizer.weights import find_weights


def register() -> None:
    """Make the resolvers known to OmegaConf; doing so again changes nothing."""
    resolvers: dict[str, Callable[..., Any]] = {
        "divisor_of": divisor_of,
        "at_least": at_least,
        "require_weights": require_weights,
        "length": length,
        "trained_with": _imported("experiments.tokens.resolvers", "trained_with"),
        "tokens_of": _imported("experiments.tokens.resolvers", "tokens_of"),
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def _imported(module: str, name: str) -> Callable[..., Any]:
    """A resolver that is imported when a configuration uses it: it reads files whose format belongs to that module."""

    def resolver(*arguments: Any, _root_: Container) -> Any:
        return getattr(importlib.import_module(module), name)(*arguments, _root_=_root_)

    return resolver


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
    value = select(_root_, key)
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
    value = select(_root_, key)
    if not isinstance(value, ListConfig):
        raise ConfigError(f"{key}={show(value)}: expected a list; change `{key}`")
    return len(value)


def select(root: Container, key: str) -> Any:
    """The value of a key, dotted from the root.

    Raises:
        ConfigError: there is no such key.
    """
    missing = object()
    value = OmegaConf.select(root, key, default=missing)
    if value is missing:
        raise ConfigError(f"there is no key `{key}`, which a relation of this configuration names")
    return value
