"""The figure of a table, the key `plot` of a sweep file."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import model_validator

from experiments.config.errors import ConfigError, nearest
from experiments.config.validation import StrictModel
from experiments.tables.fields import Text, number


class Coefficients(StrictModel):
    """Published coefficients of the law of `experiments.reports.law`."""

    B: float
    a: float
    C: float
    b: float


class Plot(StrictModel):
    """The figure of a report.

    Its kinds: metric `y` over the label `x`, a line for each value of the label `series` (lines); metric `y` over metric `x`, a point a
    row (scatter); a scatter whose axes point to the better end (plane); metric `y` over the updates of every run (curves); lines with the
    law of `experiments.reports.law` fitted to them, beside its published coefficients (law).
    """

    kind: Literal["lines", "scatter", "plane", "curves", "law"]
    y: Text
    x: str = ""
    series: str = ""
    law: Coefficients | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        keys = {"curves": (), "scatter": ("x",), "plane": ("x",)}.get(self.kind, ("x", "series"))
        for key in ("x", "series", "law"):
            optional = key == "law" and self.kind == "law"
            if getattr(self, key) and key not in keys and not optional:
                raise ConfigError(key, reason=f"kind {self.kind} has no such key", expected=f"kind, y, {', '.join(keys)}".rstrip(", "))
            if key in keys and not getattr(self, key):
                raise ConfigError(key, reason=f"is missing for kind {self.kind}")
        return self

    def check(self, labels: list[str], metrics: list[str], cells: Mapping[str, list[str]]) -> None:
        """Check that a table has the labels and metrics of the figure, and numbers on its axes.

        Args:
            labels: heads of the rows' leading cells.
            metrics: keys of the columns.
            cells: leading cells of each row, by the row's place in its file.
        """
        for key, word in (("y", self.y), ("x", self.x), ("series", self.series)):
            known = metrics if key == "y" or self.kind in ("scatter", "plane") else labels
            if word and word not in known:
                raise ConfigError(f"plot.{key}", word, expected=f"one of {', '.join(known)}", nearest=nearest(word, known))
        for label in {"law": (self.x, self.series), "lines": (self.x,)}.get(self.kind, ()):
            for place, row in cells.items():
                cell = row[labels.index(label)]
                if number(cell) is None:
                    raise ConfigError("label", cell, expected=f"a number for {label}, an axis of the plot", place=place)
