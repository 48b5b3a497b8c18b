"""A sweep file: one published table, its rows as runs, its cells as printed, and the paper's claims.

The models here check a file as a whole; `experiments.tables.reading` reads `conf/sweep/<paper>/tableNN_slug.yaml`. Imports neither torch
nor Hydra.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, model_validator

from experiments.config.errors import ConfigError, nearest, spelled
from experiments.config.overrides import last_of_each
from experiments.config.validation import StrictModel
from experiments.tables.claims import parse
from experiments.tables.columns import BITS_PER_TOKEN, Column, known_columns, labeled
from experiments.tables.fields import Experiment, LabelCell, Name, Settings, Text
from experiments.tables.plot import Plot
from experiments.tables.scaled import SCALES, Evaluation, Probe, Scale, Scaled

DECIDING: tuple[Scale, ...] = ("paper", "gpu", "mini")  # two updates at smoke decide no claim
COMPLETED = "completed"  # the evaluation that computes what a training skipped because weights were absent
RESERVED = ("raw", COMPLETED)  # no names of evaluations; `val_raw` is of the weights without averaging


def _check_evaluations(evaluations: dict[str, Any]) -> dict[str, Any]:
    for name in evaluations:
        if name in RESERVED:
            raise ConfigError(name, reason="is the name of another evaluation", advice="choose another name")
    return evaluations


def probe_title(name: str) -> str:
    """A probe in messages: `probe` for the one of that name, `probe NAME` for another."""
    return name if name == "probe" else f"probe {name}"


def probe_prefix(name: str) -> str:
    """Prefix of the numbers of a probe: `probe` for the one of that name, `probe_NAME` for another."""
    return name if name == "probe" else f"probe_{name}"


class Correction(StrictModel):
    """Intended value of a misprinted cell, and how it is known."""

    cell: Text
    why: Text


class Row(Scaled):
    """A row of the table."""

    name: Text  # unique in the file
    label: list[LabelCell] = []  # the paper's leading cells
    base: Experiment | None = None  # experiment of the row; None for the file's
    overrides: Settings = {}  # what the table studies, at every scale
    evaluation: str | None = None  # name of the evaluation that its `val/` numbers are from; None for the training's own
    probes: dict[Name, Probe] = {}  # beside those of the file; one of the same name replaces the file's
    published: list[str | None] = []  # cells as printed, None where the paper has none; empty if it has none at all
    corrections: dict[str, Correction] = {}  # of misprinted cells, by column key
    quoted: bool = False  # whether the row is a system of others, which is never run
    note: str = ""  # for the report

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.quoted and (self.overrides or self.base or self.evaluation or self.probes or any(map(self.budget, SCALES))):
            expected = "no base, overrides, evaluation, probes or scales beside it"
            raise ConfigError("quoted", True, reason="a quoted row is never run", expected=expected)
        return self


class Claim(StrictModel):
    """A conclusion of the paper: `when` is a predicate over rows and metrics, decided at the scales `scales`."""

    text: Text
    when: Text
    scales: list[Scale] = list(DECIDING)


class SweepFile(Scaled):
    """One table.

    A row is one run of a tokenizer, then the file's evaluations, then its probes and those of the row.
    """

    title: Text
    source: Text  # where it is printed, such as "arXiv:2412.02632 table 1"
    base: Experiment  # of the rows that name none
    columns: Annotated[list[Annotated[Column, BeforeValidator(labeled)]], Field(min_length=1)]
    rows: Annotated[list[Row], Field(min_length=1)]  # in the paper's order
    labels: list[Text] = []  # heads of the rows' leading cells
    claims: list[Claim] = []
    notes: list[Text] = []  # on the table as a whole
    evaluations: Annotated[dict[Name, Evaluation], AfterValidator(_check_evaluations)] = {}  # of every row, beside its training's own
    probes: dict[Name, Probe] = {}  # of every row
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
        keys = self.metric_keys
        for place, claim in enumerate(self.claims, 1):
            try:
                parse(claim.when, [row.name for row in self.rows], keys)
            except ConfigError as error:
                raise error.at(f"claim {place}") from error
        if self.plot:
            self.plot.check(self.labels, [column.key for column in self.columns], {self.place_in_file(row): row.label for row in self.runs})
        return self

    def _check_columns(self) -> None:
        known = self.metric_keys
        for place, column in enumerate(self.columns, 1):
            if column.key not in known:
                prefixes = list(dict.fromkeys(key.partition("/")[0] for key in known))
                reason = "" if column.key.partition("/")[0] in prefixes else "this file has no such evaluation or probe"
                expected, near = f"a metric under {', '.join(f'{prefix}/' for prefix in prefixes)}", nearest(column.key, known)
                raise ConfigError("key", column.key, reason=reason, expected=expected, nearest=near, place=f"column {place}")
        _check_once("key", [column.key for column in self.columns], "columns")

    def _check_row(self, row: Row) -> None:
        place = self.place_in_file(row)
        if not re.fullmatch(r"\w+", row.name):
            raise ConfigError("name", row.name, expected="letters, digits and _", place=place)
        if len(row.label) != len(self.labels):
            raise ConfigError("label", row.label, expected=f"{len(self.labels)} cells ({', '.join(self.labels)})", place=place)
        if row.published and len(row.published) != len(self.columns):
            raise ConfigError("published", row.published, expected=f"{len(self.columns)} cells, one for each column", place=place)
        if row.evaluation and row.evaluation not in self.evaluations:
            expected, near = f"one of {', '.join(self.evaluations) or 'none'}", nearest(row.evaluation, self.evaluations)
            raise ConfigError("evaluation", row.evaluation, expected=expected, nearest=near, place=place)
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

    @property
    def metric_keys(self) -> list[str]:
        """Keys of all numbers that its rows may have: of trainings, evaluations and probes."""
        known = [*known_columns(), BITS_PER_TOKEN]
        probes = dict.fromkeys(probe_prefix(name) for probes in (self.probes, *(row.probes for row in self.rows)) for name in probes)
        prefixes = {"val": ["val", *(f"val_{name}" for name in self.evaluations)], "probe": list(probes)}
        parts = [key.partition("/")[::2] for key in known]
        return list(dict.fromkeys(f"{prefix}/{name}" for start, name in parts for prefix in prefixes.get(start, [start])))

    def probe_settings(self, row: Row, scale: str) -> dict[str, dict[str, Any]]:
        """Settings of experiments.probe for each probe of a row, by its name.

        Raises:
            ConfigError: a probe has no protocol at this scale.
        """
        settings = {}
        for name, probe in {**self.probes, **row.probes}.items():
            try:
                settings[name] = probe.settings(scale)
            except ConfigError as error:
                raise error.at(probe_title(name)) from error
        return settings

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
        return last_of_each([f"experiment={row.base or self.base}", f"scale={scale}", *changes, *extra, *overrides, f"seed={seed}"])


def _check_once(key: str, names: list[str], where: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(key, twice[0], reason=f"is in two {where}", advice="give each its own")
