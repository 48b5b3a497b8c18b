"""Modules that record their constructor's arguments, so that a model can be saved without its configuration."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from typing import Any

from torch import nn

from tokenizer.interfaces.values import TokenSpec


class Configurable(nn.Module):
    """Module that records the arguments of its constructor.

    Arguments may be plain values (numbers, text, booleans, None), lists and dicts of them, a `TokenSpec`, and other configurable modules.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]

    def config(self) -> dict[str, Any]:
        """Configuration of this module in plain containers, from which `tokenizer.pretrained.build` builds a module with equal settings.

        Only arguments that were passed are included, in their order. An argument that is a module is described as it is now if the
        attribute of the same name has been replaced.

        Raises:
            ValueError: an argument of this or an inner module cannot be described, or a class cannot be imported by its name.
        """
        cls, arguments = vars(self).get("_recorded", (type(self), {}))  # nothing is recorded without a constructor
        if cls.__module__ == "__main__" or "." in cls.__qualname__:
            raise ValueError(f"{cls.__qualname__} cannot be imported from {cls.__module__}; define it at the top level of a module")
        arguments = {name: getattr(self, name, value) if isinstance(value, nn.Module) else value for name, value in arguments.items()}
        described = {name: _describe(value, f"argument {name} of {cls.__name__}") for name, value in arguments.items()}
        return {"_target_": f"{cls.__module__}.{cls.__qualname__}", **described}


def _recording(constructor: Callable[..., None]) -> Callable[..., None]:
    names = list(inspect.signature(constructor).parameters)[1:]

    @wraps(constructor)
    def recorded(self: Any, *args: Any, **kwargs: Any) -> None:
        constructor(self, *args, **kwargs)
        arguments = {**dict(zip(names, args, strict=False)), **kwargs}
        self._recorded = type(self), {name: _copy(value) for name, value in arguments.items()}  # the outermost constructor records last

    return recorded


def _copy(value: Any) -> Any:
    """Copy containers, so that later changes to them are not recorded."""
    if isinstance(value, Mapping):
        return {key: _copy(entry) for key, entry in value.items()}
    return [_copy(entry) for entry in value] if isinstance(value, list | tuple) else value


def _describe(value: Any, owner: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Configurable):
        return value.config()
    if isinstance(value, TokenSpec):
        arguments = {field.name: _copy(getattr(value, field.name)) for field in fields(value)}
        return {"_target_": "tokenizer.interfaces.TokenSpec", **arguments}
    if isinstance(value, list):
        return [_describe(entry, owner) for entry in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _describe(entry, owner) for key, entry in value.items()}
    raise ValueError(f"{owner} is a {type(value).__name__}, expected plain values, a TokenSpec or configurable modules; it cannot be saved")
