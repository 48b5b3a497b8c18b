"""The content of a report: the table, the claims, the remarks, and what the numbers rest on. No layout."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from experiments.config.signatures import CONF
from experiments.reports.cards import card_lines
from experiments.reports.cells import Metric, make_metric
from experiments.reports.law import Law, Point, fitted
from experiments.reports.measured import MeasuredRow, measure, published_values
from experiments.reports.remarks import changes, remarks
from experiments.tables.claims import Operand, judge_measured, judge_published, operands
from experiments.tables.sweep_file import BITS_PER_TOKEN, KNOWN_COLUMNS, Claim, Column, SweepFile


@dataclass(frozen=True)
class JudgedClaim:
    """A claim with the verdict on the printed cells, the verdict on measured numbers, and those numbers."""

    text: str
    published: str
    measured: str
    values: str


@dataclass(frozen=True)
class Report:
    """Everything that a report says.

    Attributes:
        sweep: the file.
        scale: of the runs.
        rows: as measured, in the paper's order.
        metrics: the paper's columns, and bits per token.
        claims: judged.
        remarks: one line each.
        basis: what the numbers rest on, one line each.
        laws: of a figure that has one, by what it was fitted to, each with its points.
    """

    sweep: SweepFile
    scale: str
    rows: list[MeasuredRow]
    metrics: list[Metric]
    claims: list[JudgedClaim]
    remarks: list[str]
    basis: list[str]
    laws: Mapping[str, tuple[Law, list[Point]]] = field(default_factory=dict)

    @property
    def label_heads(self) -> list[str]:
        """Heads of the leading cells; of the rows' names where the file has no labels."""
        return self.sweep.labels or ["row"]

    @property
    def labels(self) -> list[list[str]]:
        """The leading cells of each row."""
        return [row.row.label or [row.row.name] for row in self.rows]

    @property
    def states(self) -> list[str]:
        """Name and state of each row."""
        return [f"{row.row.name}: {row.state}" for row in self.rows]

    @property
    def difference_head(self) -> str:
        """Says what is subtracted from what."""
        return "difference" if self.scale == "paper" else f"difference ({self.scale} - paper)"

    @property
    def law_lines(self) -> list[str]:
        """The coefficients, one line a fit."""
        lines = [f"{name}: {law.describe(points)}" for name, (law, points) in self.laws.items()]
        return ["rFID = B / log2(V)^a + C * D^b", *lines] if lines else []

    @property
    def is_measured(self) -> bool:
        """Whether any row has a number."""
        return any(metric.has_measured for metric in self.metrics)

    @property
    def legend(self) -> str:
        """What is needed to read the table."""
        if not self.is_measured:
            return f"Published cells as printed. Nothing is measured at scale={self.scale}."
        setting = "" if self.scale == "paper" else f" {self.scale} and paper are not the same setting."
        several = any(len(row.done) > 1 for row in self.rows)
        seeds = "Measured: mean ± sample standard deviation (number of seeds). " if several else ""
        return f"{seeds}Difference: measured - published.{setting}"


def make_report(sweep: SweepFile, scale: str, seeds: int, words: list[str], config_dir: Path = CONF) -> Report:
    """Find the runs of a table and put its report together.

    Args:
        sweep: the file.
        scale: a file of conf/scale.
        seeds: runs are looked for with the seeds 0 to `seeds` - 1.
        words: those that the rows were trained with.
        config_dir: where the configuration files lie.

    Raises:
        ConfigError: a row, or a word, that is no configuration.
    """
    rows = measure(sweep, scale, seeds, words, config_dir)
    metrics = [make_metric(column, place, rows) for place, column in enumerate(sweep.columns)]
    if all(column.key != BITS_PER_TOKEN for column in sweep.columns):
        metrics.append(make_metric(Column(BITS_PER_TOKEN, "bits/token"), None, rows))
    published = published_values(sweep)
    claims = [_judged(claim, sweep, scale, rows, published) for claim in sweep.claims]
    basis = card_lines(rows, [metric.column for metric in metrics]) + changes(sweep, scale, config_dir)
    laws = fitted(sweep, rows, published) if sweep.plot.get("kind") == "law" else {}
    return Report(sweep, scale, rows, metrics, claims, remarks(sweep, rows, metrics), basis, laws)


def _judged(claim: Claim, sweep: SweepFile, scale: str, rows: list[MeasuredRow], published: Mapping[Operand, float]) -> JudgedClaim:
    by_name = {row.row.name: row for row in rows}
    used = operands(claim.when)
    means = {(name, key): mean.value for name, key in used if (mean := by_name[name].mean(key))}
    by_seed: dict[int, dict[Operand, float]] = {}
    for name, key in used:
        for run in by_name[name].done:
            if key in run.metrics:
                by_seed.setdefault(run.seed, {})[name, key] = run.metrics[key]
    cards = {(name, key): [run.cards[key] for run in by_name[name].done if key in run.cards] for name, key in used}

    def why_missing(operand: Operand) -> str:
        """In short; the remarks have the rest."""
        return by_name[operand[0]].why_missing(operand[1]).partition(":")[0]

    verdict = judge_measured(claim, scale, means, by_seed, cards, why_missing)
    columns = {**KNOWN_COLUMNS, **{column.key: column for column in sweep.columns}}
    values = [f"{name} {_shown(columns.get(key, Column(key, key)), means[name, key])}" for name, key in used if (name, key) in means]
    return JudgedClaim(claim.text, str(judge_published(claim, published)), str(verdict), ", ".join(values))


def _shown(column: Column, value: float) -> str:
    unit = f" {column.unit}" if column.unit else ""
    return f"{column.label} {value * column.factor:.4g}{unit}"
