"""Measured numbers of the rows of a sweep: their runs, found by configuration, with states and cards. Imports no torch."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.config.compose import Composition, compose
from experiments.config.errors import ConfigError
from experiments.config.files import read_yaml
from experiments.config.packages import CONF
from experiments.config.paths import with_home
from experiments.evaluation.results import Skipped, skipped_of
from experiments.runs.folder import RunFolder, digest_of_config, runs_by_config
from experiments.tables.claims import Operand
from experiments.tables.fields import number
from experiments.tables.measurements import Measurement, evaluation, measurements
from experiments.tables.sweep_file import COMPLETED, Row, SweepFile
from tokenizer.weights import FILES, MissingWeightsError


@dataclass(frozen=True)
class Run:
    """One run of a row.

    Attributes:
        seed: run seed.
        folder: run folder.
        state: done, running, interrupted or failed.
        metrics: numbers by key; `val_NAME/rfid` is of the evaluation NAME, `probe_NAME/gfid` of the probe NAME.
        cards: of the metrics.
        skipped: why a metric is missing, by its key.
        error: of a failed run.
        failed: errors of evaluations and probes that failed, by their titles.
    """

    seed: int
    folder: Path
    state: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """The state, with the evaluations and probes that failed."""
        return ", ".join([self.state, *(f"{title} failed" for title in self.failed)])


@dataclass(frozen=True)
class Mean:
    """One metric over the seeds: mean, sample standard deviation (None for a single seed) and number of seeds."""

    value: float
    spread: float | None
    seeds: int


@dataclass(frozen=True)
class MeasuredRow:
    """A row with its runs.

    Attributes:
        row: of the sweep file.
        runs: one a seed, in the order of the seeds.
        why_none: why there is no run: quoted, not run, weights absent; empty if there is one.
    """

    row: Row
    runs: list[Run]
    why_none: str = ""

    @property
    def measured(self) -> list[Run]:
        """The runs that have numbers, and those that are done."""
        return [run for run in self.runs if run.metrics or run.state == "done"]

    @property
    def state(self) -> str:
        """States of all its runs, with the seeds that are not 0."""
        if self.why_none:
            return self.why_none
        if len(self.runs) == 1 and self.runs[0].seed == 0:
            return self.runs[0].description
        states = list(dict.fromkeys(run.description for run in self.runs))
        return "; ".join(f"{state}: {_seeds([run.seed for run in self.runs if run.description == state])}" for state in states)

    def mean(self, key: str) -> Mean | None:
        """Mean of a metric, in the unit of results; None if no run has it."""
        values = [run.metrics[key] for run in self.measured if key in run.metrics]
        if not values:
            return None
        return Mean(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))

    def why_missing(self, key: str) -> str:
        """Reason why `mean` is None."""
        if not self.measured:
            return self.state
        reasons = [run.skipped[key] for run in self.measured if key in run.skipped]
        return reasons[0] if reasons else "not in its results"


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def measure(sweep: SweepFile, scale: str, seeds: int, overrides: list[str], config_dir: Path = CONF) -> list[MeasuredRow]:
    """The rows with their runs.

    Where there are no runs at all, only as much is composed as shows whether `overrides` are valid.

    Args:
        sweep: table.
        scale: file of conf/scale.
        seeds: runs are looked for with the seeds 0 to `seeds` - 1.
        overrides: overrides that all rows were trained with.
        config_dir: folder of the configuration files.

    Raises:
        ConfigError: a row, or an override, is no valid configuration.
    """
    folders = runs_by_config(runs_folder(overrides, config_dir))
    trained = {folder.config["seed"] for folder in folders.values()}  # composing a row takes time, so not for other seeds
    for row in sweep.runs:  # an override that a row studies, and a probe without a protocol, is an error even if nothing was run
        sweep.training_overrides(row, scale, 0, overrides)
        try:
            sweep.probe_settings(row, scale)
        except ConfigError as error:
            raise error.at(sweep.place_of(row)) from error
    rows = []
    for row in sweep.rows:
        if row.quoted:
            rows.append(MeasuredRow(row, [], "quoted"))
        elif folders or (overrides and row is sweep.runs[0]):  # a misspelled override must not look like a table that was never run
            commands = {seed: sweep.training_overrides(row, scale, seed, overrides) for seed in range(seeds) if seed in trained}
            commands = commands or {0: sweep.training_overrides(row, scale, 0, overrides)}
            rows.append(_measured(sweep, row, scale, commands, overrides, folders, config_dir))
        else:
            rows.append(MeasuredRow(row, [], "not run"))
    return rows


def runs_folder(overrides: list[str], config_dir: Path) -> Path:
    """The folder of runs that were trained with these overrides."""
    named = [value for key, _, value in (override.partition("=") for override in overrides) if key == "runs_folder"]
    default = read_yaml(config_dir / "train.yaml")["runs_folder"]
    return Path(with_home(str([default, *named][-1])))


def _measured(
    sweep: SweepFile,
    row: Row,
    scale: str,
    commands: Mapping[int, list[str]],
    extra: list[str],
    folders: Mapping[str, RunFolder],
    config_dir: Path,
) -> MeasuredRow:
    runs = []
    for seed, overrides in commands.items():
        try:
            composition = _composed(overrides, config_dir)
            folder = folders.get(digest_of_config(composition.config))
            if folder is not None:
                completion = evaluation(COMPLETED, {}, composition)
                runs.append(_read(folder, seed, sweep, row, [completion, *measurements(sweep, row, scale, composition, extra)]))
        except MissingWeightsError:
            return MeasuredRow(row, [], "not run" if not folders else "weights absent")
        except ConfigError as error:
            raise error.at(sweep.place_of(row)) from error
    return MeasuredRow(row, runs, "" if runs else "not run")


def _composed(overrides: list[str], config_dir: Path) -> Composition:
    """A row's configuration. The folder of the data does not identify a run, so it may be left out."""
    try:
        return compose("train", overrides, config_dir)
    except ConfigError as error:
        if error.key != "data.root":
            raise
    return compose("train", [*overrides, "data.root=."], config_dir)


def _read(folder: RunFolder, seed: int, sweep: SweepFile, row: Row, measured: list[Measurement]) -> Run:
    result = folder.result
    state = str(result.get("state", "interrupted"))
    if state != "done":
        state = "interrupted" if state == "running" and not folder.in_use else state
        return Run(seed, folder.path, state, error=str(result.get("error", "")))
    metrics, cards, skipped = dict(result["metrics"]), dict(result["cards"]), _skipped(result, "val")
    failed: dict[str, str] = {}
    for each in measured:
        own = RunFolder(folder.path / "evaluations" / each.folder).result
        metrics = {**_renamed(own.get("metrics", {}), each), **metrics}
        cards = {**_renamed(own.get("cards", {}), each), **cards}
        skipped |= _skipped(own, each.prefix) if each.verb == "evaluate" else _renamed(_reasons(own), each)
        expected = list(skipped) if each.name == COMPLETED else [f"{each.prefix}/{name}" for name in _names(sweep, row, each)]
        if own.get("state") == "failed":
            failed[each.title] = str(own.get("error", ""))
            skipped |= dict.fromkeys(expected, f"{each.title} failed")
        elif not own and each.name != COMPLETED:
            skipped |= dict.fromkeys(expected, f"{each.title} not run")
    if row.evaluation:
        metrics, cards, skipped = (_with_evaluation(part, row.evaluation) for part in (metrics, cards, skipped))
    skipped = {key: why for key, why in {**_absent(sweep, measured), **skipped}.items() if key not in metrics}
    return Run(seed, folder.path, state, metrics, cards, skipped, failed=failed)


def _names(sweep: SweepFile, row: Row, measurement: Measurement) -> list[str]:
    """Names of the metrics of a measurement that are in a row of the table."""
    prefixes = [measurement.prefix, *(["val"] if measurement.verb == "evaluate" and measurement.name == row.evaluation else [])]
    return [name for prefix, _, name in (column.key.partition("/") for column in sweep.columns) if prefix in prefixes]


def _with_evaluation(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values of a run, with those of an evaluation in place of the training's own."""
    others = {key: value for key, value in values.items() if not key.startswith("val/")}
    return others | {f"val/{key.removeprefix(f'val_{name}/')}": value for key, value in values.items() if key.startswith(f"val_{name}/")}


def _absent(sweep: SweepFile, measured: list[Measurement]) -> dict[str, str]:
    """Why a row has no numbers of a probe of another row."""
    own = [each.prefix for each in measured]
    keys = [column.key for column in sweep.columns if column.key.startswith("probe")]
    return {key: f"this row has no {key.partition('/')[0].replace('_', ' ', 1)}" for key in keys if key.partition("/")[0] not in own}


def _renamed(values: Mapping[str, Any], measurement: Measurement) -> dict[str, Any]:
    """The entries of a result that are its own, of an evaluation those of averaged weights, under its prefix."""
    own = f"{measurement.own_prefix}/"
    return {f"{measurement.prefix}/{key.removeprefix(own)}": value for key, value in values.items() if key.startswith(own)}


def _reasons(result: Mapping[str, Any]) -> dict[str, str]:
    return {name: _reason(skipped) for name, skipped in skipped_of(result).items()}


def _skipped(result: Mapping[str, Any], prefix: str) -> dict[str, str]:
    return {f"{prefix}/{name}": why for name, why in _reasons(result).items()}


def _reason(skipped: Skipped) -> str:
    """Why a metric was left out, without the place on that machine where a file was expected."""
    file = FILES[skipped.weights] if skipped.weights else None
    return f"weights absent: {file.purpose} needs {file.filename}" if file else skipped.reason


def published_values(sweep: SweepFile) -> dict[Operand, float]:
    """The printed cells that are numbers, misprints corrected, in the unit of results."""
    values = {}
    for row in sweep.rows:
        for column, cell in zip(sweep.columns, sweep.cells(row), strict=True):
            corrected = row.corrections[column.key].cell if column.key in row.corrections else cell
            value = number(corrected)
            if value is not None:
                values[row.name, column.key] = value / column.factor
    return values
