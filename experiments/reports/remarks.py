"""The lines below the table of a report: misprints, failures, absent numbers, columns without a best, notes, changes of a scale."""

from collections.abc import Mapping
from typing import Any

from experiments.config.errors import spelled
from experiments.config.files import ConfigFolders, choices_in, read_yaml
from experiments.reports.cells import MISPRINT, MeasuredColumn
from experiments.reports.measured import MeasuredRow
from experiments.tables.sweep_file import SweepFile


def run_remarks(rows: list[MeasuredRow], metrics: list[MeasuredColumn]) -> list[str]:
    """Failures of runs, why numbers are absent, and why a column has no best."""
    return [*_failures(rows), *_unmeasured(metrics, rows), *_unranked(metrics)]


def changes(sweep: SweepFile, scale: str, folders: ConfigFolders) -> list[str]:
    """Settings of the scale: keys of its file, of the sweep file, and of rows."""
    path = folders.find(f"scale/{scale}")
    of_file = {**choices_in(path), **choices_in(path, overriding=True), **_leaves(read_yaml(path))} if path else {}
    settings = {**of_file, **sweep.budget(scale)}
    lines = [f"scale={scale} sets {_assignments(settings)}"] if settings else []
    return lines + [f"scale={scale}, row {row.name}: {_assignments(row.budget(scale))}" for row in sweep.rows if row.budget(scale)]


def misprints(sweep: SweepFile) -> list[str]:
    """Printed and intended values of misprinted cells."""
    places = {column.key: (place, column.label) for place, column in enumerate(sweep.columns)}
    return [
        f"{MISPRINT} {row.name}, {places[key][1]}: printed {sweep.cells(row)[places[key][0]]}, meant {correction.cell} ({correction.why})"
        for row in sweep.rows
        for key, correction in row.corrections.items()
    ]


def notes(sweep: SweepFile) -> list[str]:
    """Notes on rows, then on the table."""
    return [*(f"{row.name}: {row.note}" for row in sweep.rows if row.note), *sweep.notes]


def _failures(rows: list[MeasuredRow]) -> list[str]:
    lines = []
    for row in rows:
        for run in row.runs:
            errors = {"": run.error} if run.state == "failed" else {}
            errors |= {f", {title}": error for title, error in run.failed.items()}
            for what, error in errors.items():
                reason = " ".join(error.split()) or "it left no message"
                lines.append(f"{row.row.name}, seed {run.seed}{what}, failed: {reason} ({run.folder})")
    return lines


def _unmeasured(metrics: list[MeasuredColumn], rows: list[MeasuredRow]) -> list[str]:
    """Why rows that were run lack a number, the metrics of one reason together."""
    ran = [row for row in rows if row.measured]
    reasons: dict[str, list[str]] = {}
    for metric in metrics:
        key = metric.column.key
        lacking = [row for row, cell in zip(rows, metric.cells, strict=True) if row.measured and cell.measured is None]
        for why in dict.fromkeys(row.why_missing(key) for row in lacking):
            names = [row.row.name for row in lacking if row.why_missing(key) == why]
            reasons.setdefault(why, []).append(metric.column.label + ("" if len(names) == len(ran) else f" ({', '.join(names)})"))
    return [f"Not measured: {', '.join(labels)}. {' '.join(why.split())}" for why, labels in reasons.items()]


def _unranked(metrics: list[MeasuredColumn]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.unranked:
            reasons.setdefault(metric.unranked, []).append(metric.column.label)
    return [f"No best is marked under {', '.join(labels)}: {why}" for why, labels in reasons.items()]


def _assignments(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={spelled(value)}" for key, value in settings.items())


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a tree under their dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves
