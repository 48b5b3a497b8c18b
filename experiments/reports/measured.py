"""What was measured for the rows of a sweep: their runs, found by configuration, with states, numbers and cards. Imports no torch."""

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from experiments.config.compose import compose
from experiments.config.errors import ConfigError
from experiments.config.signatures import CONF
from experiments.runs.folder import RESULT, RunFolder, digest_of_config, runs_by_config
from experiments.tables.claims import Operand
from experiments.tables.plot_settings import number
from experiments.tables.sweep_file import COMPLETED, Row, SweepFile
from tokenizer.weights import MissingWeightsError

SEED = 987_654_321
"""Stands for the seed in the one configuration that a row is composed to; no other setting has this value."""


@dataclass(frozen=True)
class Run:
    """One run of a row.

    Attributes:
        seed: of the run.
        folder: its run folder.
        state: done, running, interrupted or failed.
        metrics: by key, of a run that is done; `val_NAME/rfid` is of the extra evaluation NAME.
        cards: of the metrics.
        skipped: why a metric is missing, by its key.
        error: of a failed run.
        failed: errors of evaluations that failed, by their names.
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
    def in_words(self) -> str:
        """The state, with the evaluations that failed."""
        return ", ".join([self.state, *(f"evaluation {name} failed" for name in self.failed)])


@dataclass(frozen=True)
class Mean:
    """Of one metric over the seeds: mean, sample standard deviation (None of a single seed) and number of seeds."""

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
    def done(self) -> list[Run]:
        """The runs that have numbers."""
        return [run for run in self.runs if run.state == "done"]

    @property
    def state(self) -> str:
        """Of all its runs, in words: the seeds that are not 0, and what is not done."""
        if self.why_none:
            return self.why_none
        if len(self.runs) == 1 and self.runs[0].seed == 0:
            return self.runs[0].in_words
        states = list(dict.fromkeys(run.in_words for run in self.runs))
        return "; ".join(f"{state}: {_seeds([run.seed for run in self.runs if run.in_words == state])}" for state in states)

    def mean(self, key: str) -> Mean | None:
        """Of a metric, in the unit of results; None if no run has it."""
        values = [run.metrics[key] for run in self.done if key in run.metrics]
        if not values:
            return None
        return Mean(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))

    def why_missing(self, key: str) -> str:
        """Why `mean` has nothing."""
        if not self.done:
            return self.state
        reasons = [run.skipped[key] for run in self.done if key in run.skipped]
        return reasons[0] if reasons else "not in its results"


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def measure(sweep: SweepFile, scale: str, seeds: int, words: list[str], config_dir: Path = CONF) -> list[MeasuredRow]:
    """The rows with the runs that were made of them.

    Where there are no runs at all, no more is composed than shows whether `words` can be.

    Args:
        sweep: the file.
        scale: a file of conf/scale.
        seeds: runs are looked for with the seeds 0 to `seeds` - 1.
        words: those that the rows were trained with.
        config_dir: where the configuration files lie.

    Raises:
        ConfigError: a row, or a word, that is no configuration.
    """
    found = runs_by_config(runs_folder(words, config_dir))
    train = {row.name: sweep.words(row, scale, SEED, words) for row in sweep.runs}
    rows = []
    for row in sweep.rows:
        if row.quoted:
            rows.append(MeasuredRow(row, [], "quoted"))
        elif found:
            rows.append(_measured(sweep, row, train[row.name], seeds, found, config_dir))
        else:
            if words and row is sweep.runs[0]:  # a misspelled word must not look like a table that was never run
                _measured(sweep, row, train[row.name], 0, {}, config_dir)
            rows.append(MeasuredRow(row, [], "not run"))
    return rows


def runs_folder(words: list[str], config_dir: Path) -> Path:
    """Where the runs lie that were trained with these words."""
    given = [word.partition("=")[2] for word in words if word.startswith("runs_folder=")]
    default = yaml.safe_load((config_dir / "train.yaml").read_text())["runs_folder"]
    return Path(str([default, *given][-1]))


def _measured(sweep: SweepFile, row: Row, words: list[str], seeds: int, found: Mapping[str, RunFolder], config_dir: Path) -> MeasuredRow:
    try:
        config = _composed(words, config_dir)
    except MissingWeightsError:
        return MeasuredRow(row, [], "weights absent")
    except ConfigError as error:
        raise ConfigError(f"{sweep.place_of(row)}: {error}") from error
    folders = {seed: found.get(digest_of_config(with_seed(config, seed))) for seed in range(seeds)}
    runs = [_read(folder, seed, sweep) for seed, folder in folders.items() if folder is not None]
    return MeasuredRow(row, runs, "" if runs else "not run")


def _composed(words: list[str], config_dir: Path) -> dict[str, Any]:
    """A row's configuration. Which folder the data lie in says nothing about a run, so that none has to be named."""
    try:
        return compose("train", words, config_dir).config
    except ConfigError as error:
        if not str(error).startswith("data.root is required"):
            raise
    return compose("train", [*words, "data.root=."], config_dir).config


def with_seed(node: Any, seed: int) -> Any:
    """A configuration that was composed with seed=SEED, with another seed."""
    if isinstance(node, Mapping):
        return {key: with_seed(value, seed) for key, value in node.items()}
    if isinstance(node, list):
        return [with_seed(value, seed) for value in node]
    return seed if isinstance(node, int) and node == SEED else node


def _read(folder: RunFolder, seed: int, sweep: SweepFile) -> Run:
    result = folder.result
    state = str(result.get("state", "interrupted"))
    if state != "done":
        state = "interrupted" if state == "running" and not folder.in_use else state
        return Run(seed, folder.path, state, error=str(result.get("error", "")))
    keys = [column.key for column in sweep.columns]
    metrics, cards, skipped = dict(result["metrics"]), dict(result["cards"]), _skipped(result, "val")
    failed: dict[str, str] = {}
    for name in (COMPLETED, *sweep.evaluate):
        file = folder.path / "evaluations" / name / RESULT
        extra = json.loads(file.read_text()) if file.is_file() else {}
        prefix = "val" if name == COMPLETED else f"val_{name}"
        metrics = {**_renamed(extra.get("metrics", {}), prefix), **metrics}
        cards = {**_renamed(extra.get("cards", {}), prefix), **cards}
        skipped |= _skipped(extra, prefix)
        wanted = list(skipped) if name == COMPLETED else [key for key in keys if key.startswith(f"{prefix}/")]
        if extra.get("state") == "failed":
            failed[name] = str(extra.get("error", ""))
            skipped |= dict.fromkeys(wanted, f"evaluation {name} failed")
        elif not extra and name != COMPLETED:
            skipped |= dict.fromkeys(wanted, f"evaluation {name} not run")
    skipped = {key: why for key, why in skipped.items() if key not in metrics}
    return Run(seed, folder.path, state, metrics, cards, skipped, failed=failed)


def _renamed(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """What an evaluation says of averaged weights, under the prefix of its name."""
    return {f"{prefix}/{key.removeprefix('val/')}": value for key, value in values.items() if key.startswith("val/")}


def _skipped(result: Mapping[str, Any], prefix: str) -> dict[str, str]:
    return {f"{prefix}/{name}": _reason(why) for name, why in result.get("skipped", {}).items()}


def _reason(why: str) -> str:
    """Why a metric was left out, without where on that machine a file was looked for."""
    what, looked_for, _ = why.partition(", expected at ")
    return f"weights absent: {what}" if looked_for else what


def published_values(sweep: SweepFile) -> dict[Operand, float]:
    """The printed cells that are numbers, misprints corrected, in the unit of results."""
    values = {}
    for row in sweep.rows:
        for column, cell in zip(sweep.columns, row.published, strict=True):
            corrected = row.corrections[column.key].cell if column.key in row.corrections else cell
            value = number(corrected)
            if value is not None:
                values[row.name, column.key] = value / column.factor
    return values
