"""From pydantic's report on an invalid value to the one-line error for the user. Imports neither torch nor Hydra.

A validator of ours may raise a `ConfigError`: its fields are kept, and the place where it happened is added.
"""

import math
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from experiments.config.errors import UNSET, ConfigError, nearest, spelled

Location = tuple[int | str, ...]
LONGEST = 80  # characters of a value that a message repeats
LARGEST_WHOLE = 2**63 - 1  # of torch's whole numbers
KINDS = {  # by the beginning of pydantic's names of errors
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "keys and values",
    "model": "keys and values",
}
EXPECTED = {
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "string_pattern_mismatch": "text that matches {pattern}",
    "finite_number": "a finite number",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
}


class StrictModel(BaseModel):
    """Base of settings and files: no unknown keys, no conversions, no infinite numbers, no later changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def config_error(
    error: ValidationError,
    model: type[BaseModel],
    place: str = "",
    locate: Callable[[Location], tuple[str, Location]] = lambda location: ("", location),
) -> ConfigError:
    """The first problem of a validation by `model` as an error with fields.

    Args:
        place: file that was validated, or empty for the command line.
        locate: splits pydantic's location into a place inside the file and the key in there.
    """
    details = _first(error)
    location = tuple(part for part in details["loc"] if part != "[key]")
    inner, rest = locate(location)
    key = ".".join(map(str, rest))
    place = ", ".join(part for part in (place, inner) if part)
    raised = details.get("ctx", {}).get("error")
    if isinstance(raised, ConfigError):
        own_key = raised.key if not key or raised.key == key or raised.key.startswith(f"{key}.") else f"{key}.{raised.key}".rstrip(".")
        return raised.changed(key=own_key, value=_short(raised.value)).at(place)
    if details["type"] == "extra_forbidden":
        name, known = str(location[-1]), _fields_at(model, location[:-1])
        return ConfigError(key, reason="unknown key", expected=f"one of {', '.join(known)}", nearest=nearest(name, known), place=place)
    if details["type"] == "missing":
        return ConfigError(key, reason="is missing", place=place)
    return ConfigError(
        key, _short(details["input"]), expected=_expected(details), nearest=nearest(str(details["input"]), _choices(details)), place=place
    )


def _first(error: ValidationError) -> ErrorDetails:
    """The first problem, but an unknown key before the missing one that it was probably meant to be."""
    problems = error.errors(include_url=False)
    first = problems[0]
    if first["type"] != "missing":
        return first
    unknown = [other for other in problems if other["type"] == "extra_forbidden" and other["loc"][:-1] == first["loc"][:-1]]
    return unknown[0] if unknown else first


def _expected(details: ErrorDetails) -> str:
    kind, value = details["type"], details["input"]
    if kind == "string_type" and isinstance(value, int | float):
        return f'text; a number needs quotes, such as "{spelled(value)}"'
    if choices := _choices(details):
        return f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
    known = EXPECTED.get(kind) or KINDS.get(kind.partition("_")[0])
    return known.format(**details.get("ctx", {})) if known else details["msg"].removeprefix("Input should be ")


def _choices(details: ErrorDetails) -> list[str]:
    """Values of a Literal, out of pydantic's `'paper', 'gpu' or 'mini'`; none for another error."""
    text = details["ctx"]["expected"] if details["type"] == "literal_error" else ""
    return [choice for choice in text.replace("'", "").replace(" or ", ", ").split(", ") if choice]


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """The keys of the model that a location leads to, through lists, mappings and optional values."""
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in getattr(annotation, "__args__", ()) if (found := _model_in(inner))), None)


def _short(value: Any) -> Any:
    """The value itself, or the beginning of its text where a message would become too long."""
    if value is UNSET or (isinstance(value, float) and not math.isfinite(value)):
        return value
    text = " ".join(spelled(value).split())
    return value if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
