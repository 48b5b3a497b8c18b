"""Types of constructor arguments, checked after the constructors are imported and before they are called. Imports no torch itself."""

import inspect
import json
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import SchemaError

from experiments.config.errors import ConfigError, nearest
from experiments.config.packages import buildable_packages
from experiments.config.validation import LARGEST_WHOLE

STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
PLAIN: dict[Any, str] = {
    int: "a whole number (int)",
    float: "a finite number (float)",
    bool: "true or false (bool)",
    str: "text (str)",
    types.NoneType: "null",
}
LISTS, MAPPINGS = ("list", "tuple", "Sequence", "Iterable", "set", "frozenset"), ("dict", "Mapping", "MutableMapping")


def check_tree(config: Any, path: str = "") -> None:
    """Check the arguments of every `_target_` in the part of a resolved configuration at the key `path`; imports what they name."""
    entries = config.items() if isinstance(config, Mapping) else enumerate(config) if isinstance(config, list) else ()
    for key, value in entries:
        check_tree(value, f"{path}.{key}".lstrip("."))
    if isinstance(config, Mapping) and "_target_" in config:
        from tokenizer.pretrained import locate

        check_arguments(locate(config["_target_"], buildable_packages()), config, path)


def check_arguments(constructor: Callable[..., Any], arguments: Mapping[str, Any], path: str) -> None:
    """Check the plain values among the arguments of the part at the key `path` against the annotations of its class or function.

    Objects, parts that are to be built, and names that the constructor does not have are passed over.

    Raises:
        ConfigError: a value of another type, a number that is not finite, or a whole number that torch does not have.
    """
    for name, annotation in _annotations(constructor).items():
        if _is_plain(arguments.get(name)) and (large := _too_large(arguments.get(name))):
            raise ConfigError(f"{path}.{name}".lstrip("."), large, expected=f"whole numbers from -{LARGEST_WHOLE} to {LARGEST_WHOLE}")
        if name in arguments and _is_plain(arguments[name]) and not accepts(annotation, arguments[name]):
            value, words = arguments[name], _choices(annotation)
            near = nearest(value, words) if isinstance(value, str) else ""
            raise ConfigError(f"{path}.{name}".lstrip("."), value, expected=describe(annotation), nearest=near)


def accepts(annotation: Any, value: Any) -> bool:
    """Whether a plain value suits an annotation; one that pydantic cannot check accepts everything.

    The value is checked as JSON: there a list stands for a tuple, a set or a sequence, and text is no sequence of texts.
    """
    try:
        TypeAdapter(annotation, config=STRICT).validate_json(json.dumps(value))
    except ValidationError:
        return False
    except (PydanticUserError, SchemaError):
        return not getattr(annotation, "_is_protocol", False)
    return True


def describe(annotation: Any) -> str:
    """The values that an annotation allows, in words."""
    annotation = getattr(annotation, "__value__", annotation)  # of a `type` statement
    origin, inner = get_origin(annotation), [kind for kind in get_args(annotation) if kind is not ...]
    if origin in (Union, types.UnionType):
        return " or ".join(describe(option) for option in inner)
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    name = getattr(origin or annotation, "__name__", str(annotation))
    if hasattr(annotation, "__metadata__"):
        return describe(annotation.__origin__)
    if name in LISTS and inner:
        return f"a list{f' of {len(inner)}' if len(inner) > 1 else ''}, each {describe(inner[0])}"
    if name in MAPPINGS and inner:
        return f"a mapping to {describe(inner[-1])}"
    return PLAIN.get(annotation) or (f"a {name}" if isinstance(annotation, type) else name)


def _annotations(constructor: Callable[..., Any]) -> dict[str, Any]:
    try:
        parameters = inspect.signature(constructor, eval_str=True).parameters
    except NameError:  # an annotation names what is imported for type checkers alone
        parameters = inspect.signature(constructor).parameters
    annotations = {name: parameter.annotation for name, parameter in parameters.items()}
    return {name: kind for name, kind in annotations.items() if kind is not inspect.Parameter.empty and not isinstance(kind, str)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return "_target_" not in value and all(map(_is_plain, value.values()))
    return all(map(_is_plain, value)) if isinstance(value, list) else value is None or isinstance(value, str | int | float)


def _too_large(value: Any) -> int | None:
    """The first whole number in plain containers that does not fit in 64 bits."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        return value
    return next((large for each in inner if (large := _too_large(each)) is not None), None)


def _choices(annotation: Any) -> list[str]:
    """Texts of all Literals inside an annotation."""
    annotation = getattr(annotation, "__value__", annotation)
    inner = get_args(annotation)
    words = inner if get_origin(annotation) is Literal else [word for kind in inner for word in _choices(kind)]
    return [word for word in words if isinstance(word, str)]
