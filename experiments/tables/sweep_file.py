"""A sweep file: one published table, its rows as runs, its cells as printed, and the paper's claims.

The models here check a file as a whole; `experiments.tables.reading` reads `conf/sweep/<paper>/tableNN_slug.yaml`. Imports neither torch
nor Hydra.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, PrivateAttr, model_validator

from experiments.config.errors import ConfigError, nearest, spelled
from experiments.config.validation import StrictModel
from experiments.evaluation import metrics
from experiments.evaluation.metrics.metric import Metric
from experiments.tables.claims import parse
from experiments.tables.fields import Experiment, LabelCell, Name, Settings, Text
from experiments.tables.plot import Plot

SCALES = ("paper", "gpu", "mini", "smoke")
Scale = Literal["paper", "gpu", "mini", "smoke"]
DECIDING: tuple[Scale, ...] = ("paper", "gpu", "mini")  # two updates at smoke decide no claim
COMPLETED = "completed"  # the evaluation that computes what a training skipped because weights were absent
RESERVED = ("raw", COMPLETED)  # no names of extra evaluations; `val_raw` is of the weights without averaging
BITS_PER_TOKEN = "val/bits_per_token"  # measured for every table: the same vocabulary is not the same rate


def _check_evaluations(factors: dict[str, int]) -> dict[str, int]:
    for name in factors:
        if name in RESERVED:
            raise ConfigError(name, reason="is the name of another evaluation", advice="choose another name")
    return factors


def _column(entry: Any) -> Any:
    """A metric by its key alone has the label that the field gives it."""
    if isinstance(entry, str):
        if entry not in known_columns():
            expected = "a metric with a known label, or {key: ..., label: ...}"
            raise ConfigError("key", entry, expected=expected, nearest=nearest(entry, known_columns()))
        return known_columns()[entry]
    return entry


class Column(StrictModel):
    """A metric of the table."""

    key: Text  # of a result, such as val/rfid; `val_NAME/rfid` is that of the extra evaluation NAME
    label: Text  # as the table's head prints it
    unit: str = ""  # of the printed cells; "%" for values that results hold in [0, 1], "M" for counts in millions
    better: Literal["lower", "higher", "none"] = "none"

    @property
    def factor(self) -> float:
        """Factor from the unit of results to the unit of the printed cells."""
        return {"%": 100.0, "M": 1e-6}.get(self.unit, 1.0)

    @classmethod
    def of_metric(cls, metric: type[Metric], prefix: str) -> Self:
        """The column of a metric class."""
        return cls(key=f"{prefix}/{metric.key}", label=metric.label, unit=metric.unit, better=metric.better)


def known_columns() -> dict[str, Column]:
    """Columns that a file may name by their key alone: of every metric class, and the size of the model."""
    listed = (*metrics.LIKELIHOOD_METRICS, *metrics.METRICS)
    columns = [Column.of_metric(each, "val") for each in listed]
    return {column.key: column for column in (*columns, Column(key="model/parameters", label="parameters", unit="M"))}


class Correction(StrictModel):
    """Intended value of a misprinted cell, and how it is known."""

    cell: Text
    why: Text


class Scaled(StrictModel):
    """Settings that apply at one scale only."""

    paper: Settings = {}
    gpu: Settings = {}
    mini: Settings = {}
    smoke: Settings = {}

    def budget(self, scale: str) -> dict[str, Any]:
        """Settings at a scale."""
        return dict(getattr(self, scale))


class Row(Scaled):
    """A row of the table."""

    name: Text  # unique in the file
    label: list[LabelCell] = []  # the paper's leading cells
    base: Experiment | None = None  # experiment of the row; None for the file's
    overrides: Settings = {}  # what the table studies, at every scale
    published: list[str | None] = []  # cells as printed, None where the paper has none; empty if it has none at all
    corrections: dict[str, Correction] = {}  # of misprinted cells, by column key
    quoted: bool = False  # whether the row is a system of others, which is never run
    note: str = ""  # for the report

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.quoted and (self.overrides or self.base or any(map(self.budget, SCALES))):
            raise ConfigError("quoted", True, reason="a quoted row is never run", expected="no base, overrides or scales beside it")
        return self


class Claim(StrictModel):
    """A conclusion of the paper: `when` is a predicate over rows and metrics, decided at the scales `scales`."""

    text: Text
    when: Text
    scales: list[Scale] = list(DECIDING)


class SweepFile(Scaled):
    """One table."""

    title: Text
    source: Text  # where it is printed, such as "arXiv:2412.02632 table 1"
    base: Experiment  # of the rows that name none
    columns: Annotated[list[Annotated[Column, BeforeValidator(_column)]], Field(min_length=1)]
    rows: Annotated[list[Row], Field(min_length=1)]  # in the paper's order
    labels: list[Text] = []  # heads of the rows' leading cells
    claims: list[Claim] = []
    notes: list[Text] = []  # on the table as a whole
    # extra evaluations of every row: name to factor of the training's image_size
    evaluate: Annotated[dict[Name, PositiveInt], AfterValidator(_check_evaluations)] = {}
    plot: Plot | None = None  # figure of the report
    _name: str = PrivateAttr("")

    def model_post_init(self, context: Any) -> None:
        self._name = (context or {}).get("name", "")

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_columns()
        _check_once("name", [row.name for row in self.rows], "rows")
        for row in self.rows:
            self._check_row(row)
        keys = list(dict.fromkeys([*(column.key for column in self.columns), *known_columns(), BITS_PER_TOKEN]))
        for place, claim in enumerate(self.claims, 1):
            try:
                parse(claim.when, [row.name for row in self.rows], keys)
            except ConfigError as error:
                raise error.at(f"claim {place}") from error
        if self.plot:
            self.plot.check(self.labels, [column.key for column in self.columns], {self.place_in_file(row): row.label for row in self.runs})
        return self

    def _check_columns(self) -> None:
        known = [*known_columns(), BITS_PER_TOKEN]
        known += [f"val_{name}/{key.removeprefix('val/')}" for name in self.evaluate for key in known if key.startswith("val/")]
        for place, column in enumerate(self.columns, 1):
            if column.key not in known:
                near = nearest(column.key, known)
                raise ConfigError("key", column.key, expected="a metric", nearest=near, place=f"column {place}")
        _check_once("key", [column.key for column in self.columns], "columns")

    def _check_row(self, row: Row) -> None:
        place = self.place_in_file(row)
        if not re.fullmatch(r"\w+", row.name):
            raise ConfigError("name", row.name, expected="letters, digits and _", place=place)
        if len(row.label) != len(self.labels):
            raise ConfigError("label", row.label, expected=f"{len(self.labels)} cells ({', '.join(self.labels)})", place=place)
        if row.published and len(row.published) != len(self.columns):
            raise ConfigError("published", row.published, expected=f"{len(self.columns)} cells, one for each column", place=place)
        keys = [column.key for column in self.columns]
        for key in row.corrections:
            if key not in keys:
                expected = f"one of {', '.join(keys)}"
                raise ConfigError(f"corrections.{key}", reason="is no column", expected=expected, nearest=nearest(key, keys), place=place)

    @property
    def name(self) -> str:
        """Name of the file, such as gsq/table01_codebook."""
        return self._name

    @property
    def runs(self) -> list[Row]:
        """The rows that can be run."""
        return [row for row in self.rows if not row.quoted]

    def cells(self, row: Row) -> list[str | None]:
        """The printed cells of a row, one for each column."""
        return list(row.published) or [None] * len(self.columns)

    def place_in_file(self, row: Row) -> str:
        """Number and name of a row."""
        return f"row {self.rows.index(row) + 1} ({row.name})"

    def place_of(self, row: Row) -> str:
        """File, number and name of a row, for messages."""
        return f"conf/sweep/{self.name}.yaml, {self.place_in_file(row)}"

    def training_overrides(self, row: Row, scale: str, seed: int, extra: Iterable[str] = ()) -> list[str]:
        """Overrides that train a row: base and scale, the scale's budget, those of every row (`extra`), then what the table studies.

        Raises:
            ConfigError: `extra` sets what the row studies, or what it has for itself at this scale.
        """
        extra = list(extra)
        own = {*row.overrides, *row.budget(scale), "experiment", "scale", "sweep", "seed"}
        for override in extra:
            key, _, value = override.partition("=")
            if key.lstrip("+~") in own:
                advice = "leave it out, or run the row by experiments.train"
                raise ConfigError(key, value, reason=f"row {row.name} of {self.name} sets this itself", advice=advice)
        budget = {**self.budget(scale), **row.budget(scale)}
        changes = [f"{key}={spelled(value)}" for key, value in budget.items() if key not in row.overrides]
        overrides = [f"{key}={spelled(value)}" for key, value in row.overrides.items()]
        return [f"experiment={row.base or self.base}", f"scale={scale}", *changes, *extra, *overrides, f"seed={seed}"]


def _check_once(key: str, names: list[str], where: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(key, twice[0], reason=f"is in two {where}", advice="give each its own")
