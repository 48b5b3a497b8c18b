"""The content of a report without its layout: a table with printed and measured cells, claims, remarks and measurement details."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from experiments.config.files import ConfigFolders
from experiments.config.overrides import split
from experiments.config.packages import CONF
from experiments.reports.cards import card_lines
from experiments.reports.cells import MeasuredColumn, make_column
from experiments.reports.law import Law, Point, fitted
from experiments.reports.measured import MeasuredRow, measure, published_values
from experiments.reports.remarks import changes, misprints, notes, run_remarks
from experiments.reports.verdicts import Verdict, decide_measured, decide_published
from experiments.tables.claims import Operand, operands
from experiments.tables.columns import BITS_PER_TOKEN, Column, known_columns
from experiments.tables.plot import Plot
from experiments.tables.sweep_file import Claim, SweepFile


@dataclass(frozen=True)
class TextTable:
    """A table of text below the numbers."""

    title: str
    heads: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Report:
    """Content of a report.

    Attributes:
        title: of the table.
        source: where it is printed, and which runs are measured.
        command: command that makes those runs; empty for none.
        legend: explanation of the cells.
        label_heads: heads of the leading cells.
        labels: leading cells of each row.
        rows: as measured.
        metrics: columns of numbers.
        remarks: failures, absent numbers, notes, one line each.
        basis: measurement details, one line each.
        tables: further tables, such as the claims.
        scale: of the runs; empty where there is none.
        plot: figure; None for none.
        laws: of a figure that has one, by what it was fitted to, each with its points.
    """

    title: str
    source: str
    command: str
    legend: str
    label_heads: list[str]
    labels: list[list[str]]
    rows: list[MeasuredRow]
    metrics: list[MeasuredColumn]
    remarks: list[str]
    basis: list[str]
    tables: list[TextTable] = field(default_factory=list)
    scale: str = ""
    plot: Plot | None = None
    laws: Mapping[str, tuple[Law, list[Point]]] = field(default_factory=dict)

    @property
    def states(self) -> list[str]:
        """Name and state of each row."""
        return [f"{row.row.name}: {row.state}" for row in self.rows]

    @property
    def difference_head(self) -> str:
        """Head of the differences, naming both settings where they are not the same."""
        return f"difference ({self.scale} - paper)" if self.scale not in ("", "paper") else "difference"

    @property
    def law_lines(self) -> list[str]:
        """Coefficients, one line a fit."""
        lines = [f"{name}: {law.describe(points)}" for name, (law, points) in self.laws.items()]
        return ["rFID = B / log2(V)^a + C * D^b", *lines] if lines else []

    @property
    def sections(self) -> list[tuple[str, list[str]]]:
        """Lines below the tables, by their titles."""
        sections = [("Law", self.law_lines), ("Measurement details", self.basis), ("Notes", self.remarks)]
        return [(title, lines) for title, lines in sections if lines]

    @property
    def is_measured(self) -> bool:
        """Whether any row has a number."""
        return any(metric.has_measured for metric in self.metrics)

    @property
    def is_published(self) -> bool:
        """Whether any cell is printed in a paper."""
        return any(metric.has_published for metric in self.metrics)

    @property
    def has_best(self) -> bool:
        """Whether any number is marked as the best of its column."""
        return any(cell.best for metric in self.metrics for cell in metric.cells)


def make_report(sweep: SweepFile, scale: str, seeds: int, overrides: list[str], config_dir: Path = CONF) -> Report:
    """Find the runs of a table and compare them with its printed cells.

    Args:
        sweep: table.
        scale: file of conf/scale.
        seeds: runs are looked for with the seeds 0 to `seeds` - 1.
        overrides: overrides that all rows were trained with.
        config_dir: folder of the configuration files.

    Raises:
        ConfigError: a row, or an override, is no valid configuration.
    """
    folders = ConfigFolders(config_dir, split(overrides)[1])
    rows = measure(sweep, scale, seeds, overrides, config_dir)
    cells = [sweep.cells(row) for row in sweep.rows]
    metrics = [make_column(column, [row[place] or "" for row in cells], rows) for place, column in enumerate(sweep.columns)]
    if all(column.key != BITS_PER_TOKEN for column in sweep.columns):
        metrics.append(make_column(Column(key=BITS_PER_TOKEN, label="bits/token"), [""] * len(rows), rows))
    published = published_values(sweep)
    return Report(
        title=sweep.title,
        source=f"{sweep.source}; {sweep.name}; scale={scale}",
        command=f"python -m experiments.sweep {sweep.name} scale={scale}",
        legend=_legend(scale, rows, metrics),
        label_heads=sweep.labels or ["row"],
        labels=[row.label or [row.name] for row in sweep.rows],
        rows=rows,
        metrics=metrics,
        remarks=[*misprints(sweep), *run_remarks(rows, metrics), *notes(sweep)],
        basis=card_lines(rows, [metric.column for metric in metrics]) + changes(sweep, scale, folders),
        tables=_claims(sweep, scale, rows, published),
        scale=scale,
        plot=sweep.plot,
        laws=fitted(sweep, rows, published) if sweep.plot and sweep.plot.kind == "law" else {},
    )


def _legend(scale: str, rows: list[MeasuredRow], metrics: list[MeasuredColumn]) -> str:
    is_published = any(metric.has_published for metric in metrics)
    if not any(metric.has_measured for metric in metrics):
        return f"{'Published cells as printed. ' * is_published}Nothing is measured at scale={scale}."
    seeds = "Measured: mean ± sample standard deviation (number of seeds)." if any(len(row.measured) > 1 for row in rows) else ""
    difference = "Difference: measured - published." if is_published else f"Measured at scale={scale}; nothing is published."
    setting = f"{scale} and paper are not the same setting." if is_published and scale != "paper" else ""
    return " ".join(filter(None, (seeds, difference, setting)))


def _claims(sweep: SweepFile, scale: str, rows: list[MeasuredRow], published: Mapping[Operand, float]) -> list[TextTable]:
    """The claims with their verdicts on printed numbers, if there are any, and on measured ones, and those; no table without claims."""
    if not sweep.claims:
        return []
    by_name, columns = {row.row.name: row for row in rows}, {**known_columns(), **{column.key: column for column in sweep.columns}}
    lines = []
    for claim in sweep.claims:
        means = {(name, key): mean.value for name, key in operands(claim.when) if (mean := by_name[name].mean(key))}
        values = [f"{name} {_in_unit(columns.get(key, Column(key=key, label=key)), value)}" for (name, key), value in means.items()]
        verdicts = [decide_published(claim.when, published)] if published else []
        verdicts.append(_measured_verdict(claim, scale, by_name, means))
        lines.append([claim.text, *map(str, verdicts), ", ".join(values)])
    title, heads = ("What the paper concludes", ["published cells"]) if published else ("Claims", [])
    return [TextTable(title, ["claim", *heads, "measured", "measured values"], lines)]


def _measured_verdict(claim: Claim, scale: str, rows: Mapping[str, MeasuredRow], means: Mapping[Operand, float]) -> Verdict:
    if scale not in claim.scales:
        return Verdict("undecidable", f"not meant for scale {scale}")
    by_seed: dict[int, dict[Operand, float]] = {}
    cards: dict[Operand, list[Mapping[str, object]]] = {}
    for name, key in operands(claim.when):
        for run in rows[name].measured:
            if key in run.metrics:
                by_seed.setdefault(run.seed, {})[name, key] = run.metrics[key]
            if key in run.cards:
                cards.setdefault((name, key), []).append(run.cards[key])

    def why_missing(operand: Operand) -> str:
        """In short; the remarks have the rest."""
        return rows[operand[0]].why_missing(operand[1]).partition(":")[0]

    return decide_measured(claim.when, means, by_seed, cards, why_missing)


def _in_unit(column: Column, value: float) -> str:
    unit = f" {column.unit}" if column.unit else ""
    return f"{column.label} {value * column.factor:.4g}{unit}"
