"""What every key of a sweep file must hold, in one table for each level of the file. Imports neither torch nor Hydra."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.config.checks import nearest
from experiments.config.errors import ConfigError
from experiments.tables.sweep_file import SCALES, spelled

LONGEST = 80
"""Signs of a wrong value that a message repeats."""
NAME = re.compile(r"\w+")


@dataclass(frozen=True)
class Kind:
    """Values of one sort: what they are, in words, and which values are."""

    expected: str
    fits: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float) or (isinstance(value, list) and all(map(_is_plain, value)))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _list(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _mapping(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(_is_text(key) and fits(inner) for key, inner in value.items())


ROW_NAME = Kind("a name of letters, digits and _", _is_name)
TEXT = Kind("text, with a number in quotes", _is_text)
TEXTS = Kind("a list of texts, with numbers in quotes", _list(_is_text))
LABEL = Kind("a list of texts and numbers", _list(lambda cell: isinstance(cell, str) or _is_number(cell)))
CELLS = Kind('a list of cells in quotes and null, such as ["2.000", null]', lambda value: isinstance(value, list))
ENTRIES = Kind("a list", lambda value: isinstance(value, list))
FILLED = Kind("a list that is not empty", lambda value: isinstance(value, list) and bool(value))
MAPPING = Kind("keys and values", lambda value: isinstance(value, dict))
YES_OR_NO = Kind("true or false", lambda value: isinstance(value, bool))
SETTINGS = Kind("dotted keys with values, such as {quantizer.groups: 2}", _mapping(_is_plain))
FACTORS = Kind(
    "names with whole factors of the image size, such as {twice: 2}",
    lambda value: _mapping(lambda factor: type(factor) is int and factor > 0)(value) and all(map(_is_name, value)),
)
COEFFICIENTS = Kind("names with numbers, such as {B: 411.63}", _mapping(_is_number))

BUDGETS = dict.fromkeys(SCALES, SETTINGS)
FILE = {
    "title": TEXT,
    "source": TEXT,
    "base": TEXT,
    "labels": TEXTS,
    "columns": FILLED,
    "rows": FILLED,
    "claims": ENTRIES,
    "notes": TEXTS,
    "evaluate": FACTORS,
    "plot": MAPPING,
    **BUDGETS,
}
COLUMN = {"key": TEXT, "label": TEXT, "unit": TEXT, "better": TEXT}
ROW = {
    "name": ROW_NAME,
    "label": LABEL,
    "base": TEXT,
    "overrides": SETTINGS,
    "published": CELLS,
    "corrections": MAPPING,
    "quoted": YES_OR_NO,
    "note": TEXT,
    **BUDGETS,
}
CORRECTION = {"cell": TEXT, "why": TEXT}
CLAIM = {"text": TEXT, "when": TEXT, "scales": TEXTS}
PLOT = {"kind": TEXT, "x": TEXT, "series": TEXT, "y": TEXT, "law": COEFFICIENTS}


def check(entry: Any, kinds: Mapping[str, Kind], needed: Iterable[str]) -> None:
    """Judge the keys of one level, and whether each holds what it must.

    Args:
        entry: as read.
        kinds: of the keys that it may have.
        needed: the keys that it must have.

    Raises:
        ConfigError: names the first key that is wrong, what it holds, and what was expected.
    """
    if not isinstance(entry, dict):
        raise ConfigError(f"expected keys and values, found {_shown(entry)}; known keys: {', '.join(kinds)}")
    for key in entry:
        if key not in kinds:
            raise ConfigError(f"unknown key `{key}`{nearest(str(key), kinds)}; known: {', '.join(kinds)}")
    for key in needed:
        if key not in entry:
            raise ConfigError(f"`{key}` is missing: expected {kinds[key].expected}")
    for key, value in entry.items():
        if not kinds[key].fits(value):
            raise ConfigError(f"`{key}` is {_shown(value)}, expected {kinds[key].expected}")


def _shown(value: Any) -> str:
    text = " ".join(spelled(value).split())
    return (text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}...") or "empty"
