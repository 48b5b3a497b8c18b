"""What a sweep file may say of its picture, its key `plot`.

`kind` is one of

* lines: metric `y` over the label `x`, a line for each value of the label `series`
* scatter: metric `y` over metric `x`, a point a row
* curves: metric `y` over the updates of every run
* law: as lines, with the law of `experiments.reports.law` fitted to `y` over `x` and `series`; `law` holds the published coefficients
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.config.checks import nearest
from experiments.config.errors import ConfigError
from experiments.tables.kinds import PLOT, check
from experiments.tables.sweep_file import Column, Row

KINDS: dict[str, tuple[str, ...]] = {
    "lines": ("x", "series", "y"),
    "scatter": ("x", "y"),
    "curves": ("y",),
    "law": ("x", "series", "y", "law"),
}
OPTIONAL = ("law",)
COEFFICIENTS = ("B", "a", "C", "b")
THOUSANDS = {"k": 1024, "K": 1024, "M": 1024**2}


def number(cell: str | None) -> float | None:
    """The number that a printed cell shows, such as 11.37, 8k for 8192 or 100 %; None if it shows none."""
    text = (cell or "").strip().removesuffix("%").replace(",", "").strip()
    factor = THOUSANDS.get(text[-1:], 1)
    try:
        value = float(text[:-1] if factor > 1 else text) * factor
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def check_plot(plot: Mapping[str, Any], labels: list[str], columns: list[Column], rows: Iterable[Row]) -> None:
    """Judge `plot` before anything is drawn; an empty one draws nothing.

    Raises:
        ConfigError: a key or value that is not known; names the nearest.
    """
    if not plot:
        return
    check(plot, PLOT, ("kind",))
    kind = plot["kind"]
    if kind not in KINDS:
        raise ConfigError(f"kind {kind} is not known{nearest(kind, KINDS)}; known: {', '.join(KINDS)}")
    for key in plot:
        if key not in ("kind", *KINDS[kind]):
            raise ConfigError(f"unknown key `{key}`{nearest(key, KINDS[kind])}; kind {kind} has {', '.join(KINDS[kind])}")
    for key in KINDS[kind]:
        if key not in plot and key not in OPTIONAL:
            raise ConfigError(f"`{key}` is missing; kind {kind} has {', '.join(KINDS[kind])}")
    metrics = [column.key for column in columns]
    for key in KINDS[kind]:
        known = metrics if key == "y" or kind == "scatter" else labels
        if key != "law" and plot[key] not in known:
            raise ConfigError(f"{key} {plot[key]} is not there{nearest(plot[key], known)}; known: {', '.join(known)}")
    for key in ("x", "series") if kind == "law" else ("x",) if kind == "lines" else ():
        place = labels.index(plot[key])
        wrong = [row for row in rows if not row.quoted and number(row.label[place]) is None]
        if wrong:
            raise ConfigError(f"{key} {plot[key]}: the label {wrong[0].label[place]} of row {wrong[0].name} is no number")
    if set(plot.get("law", COEFFICIENTS)) != set(COEFFICIENTS):
        raise ConfigError(f"law has {', '.join(plot['law'])}; expected {', '.join(COEFFICIENTS)}")
