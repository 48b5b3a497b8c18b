"""Relations between keys that YAML files state: `groups: ${divisor_of:groups,latent_dim}`.

A resolver takes names of keys, dotted from the root, not values, so that its error can name the key to change.
"""

import importlib
from collections.abc import Callable
from typing import Any

from omegaconf import Container, ListConfig, OmegaConf

from experiments.config.errors import UNSET, ConfigError, spelled
from experiments.config.parsing import parse_yaml
from experiments.config.validation import LARGEST_WHOLE
from tokenizer.weights import find_weights

MOST_LEVELS = 16
MOST_TRIED = 100_000  # numbers among which divisors are suggested


def register() -> None:
    """Register the resolvers with OmegaConf; a second call changes nothing."""
    resolvers: dict[str, Callable[..., Any]] = {
        "divisor_of": divisor_of,
        "require_weights": require_weights,
        "length": length,
        "levels_of": levels_of,
        "grid_of": grid_of,
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
    value, whole = whole_number(_root_, key, 1), whole_number(_root_, of, 1)
    if whole % value:
        divisors = [number for number in range(1, min(whole, MOST_TRIED) + 1) if whole % number == 0]
        near = [str(max(d for d in divisors if d < value)), *(str(d) for d in divisors if d > value)][:2]
        reason, advice = f"does not divide {of}={whole}", f"change `{key}` or `{of}`"
        raise ConfigError(key, value, reason=reason, nearest=" or ".join(near), advice=advice)
    return value


def require_weights(name: str, without: str = "", *, _root_: Container) -> str:
    """`name`, if that file of weights is on this machine or if the option `without`, as key=value, is chosen already."""
    key, _, value = without.partition("=")
    chosen = OmegaConf.select(_root_, key) if key else None
    if chosen is None or chosen != parse_yaml(value):
        find_weights(name, without)
    return name


def length(key: str, *, _root_: Container) -> int:
    """The number of entries of the list at `key`."""
    value = select(_root_, key)
    if not isinstance(value, ListConfig):
        raise ConfigError(key, value, expected="a list")
    return len(value)


def levels_of(key: str, image_size: str, *, _root_: Container) -> ListConfig:
    """The list at `key`, one entry for each level of a network whose map halves between two: the image size can be halved as often."""
    value, side = select(_root_, key), whole_number(_root_, image_size, 1)
    if not isinstance(value, ListConfig) or not 1 <= len(value) <= MOST_LEVELS:
        raise ConfigError(key, value, expected=f"a list with a number for each of 1 to {MOST_LEVELS} levels, such as [1,1,2]")
    step = 2 ** (len(value) - 1)
    if side % step:
        below = side - side % step
        near = " or ".join(str(size) for size in (below, below + step) if size)
        raise ConfigError(
            image_size, side, reason=f"is no multiple of {step}, the pixels per token of {key}={spelled(list(value))}", nearest=near
        )
    return value


def grid_of(key: str, image_size: str, *, _root_: Container) -> ListConfig:
    """Height and width, in cells, of the coarsest map of a network with the levels at `key`."""
    cells = whole_number(_root_, image_size, 1) // 2 ** (len(levels_of(key, image_size, _root_=_root_)) - 1)
    return ListConfig([cells, cells])


def whole_number(root: Container, key: str, minimum: int) -> int:
    """The value of a key, checked to be a whole number of at least `minimum`."""
    value = select(root, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(key, value, expected=f"a whole number of at least {minimum}")
    if value > LARGEST_WHOLE:
        raise ConfigError(key, value, expected=f"a whole number of at most {LARGEST_WHOLE}")
    return value


def select(root: Container, key: str) -> Any:
    """The value of a key, dotted from the root; a ConfigError if there is no such key."""
    value = OmegaConf.select(root, key, default=UNSET)
    if value is UNSET:
        raise ConfigError(key, reason="a relation of this configuration names this key, which does not exist")
    return value
