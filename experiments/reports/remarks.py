"""What a report says below its table: misprints, failures, what was not measured or not ranked, notes, and what a scale changes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from experiments.reports.cells import MISPRINT, Metric
from experiments.reports.measured import MeasuredRow
from experiments.tables.sweep_file import SweepFile, spelled


def remarks(sweep: SweepFile, rows: list[MeasuredRow], metrics: list[Metric]) -> list[str]:
    """All of them, one line each."""
    return [*_misprints(sweep), *_failures(rows), *_unmeasured(metrics, rows), *_unranked(metrics), *_notes(sweep)]


def changes(sweep: SweepFile, scale: str, config_dir: Path) -> list[str]:
    """What the scale sets: the keys of its file, of the sweep file, and of rows."""
    content = yaml.safe_load((config_dir / "scale" / f"{scale}.yaml").read_text()) or {}
    groups = [(name, choice) for entry in content.pop("defaults", []) if isinstance(entry, dict) for name, choice in entry.items()]
    settings = {str(name).removeprefix("override ").lstrip("/"): choice for name, choice in groups}
    settings |= {**_leaves(content), **sweep.budgets.get(scale, {})}
    lines = [f"scale={scale} sets {_words(settings)}"] if settings else []
    return lines + [f"scale={scale}, row {row.name}: {_words(row.budgets[scale])}" for row in sweep.rows if scale in row.budgets]


def _misprints(sweep: SweepFile) -> list[str]:
    places = {column.key: (place, column.label) for place, column in enumerate(sweep.columns)}
    return [
        f"{MISPRINT} {row.name}, {places[key][1]}: printed {row.published[places[key][0]]}, meant {correction.cell} ({correction.why})"
        for row in sweep.rows
        for key, correction in row.corrections.items()
    ]


def _failures(rows: list[MeasuredRow]) -> list[str]:
    lines = []
    for row in rows:
        for run in row.runs:
            errors = {"": run.error} if run.state == "failed" else {}
            errors |= {f", evaluation {name}": error for name, error in run.failed.items()}
            for what, error in errors.items():
                said = " ".join(error.split()) or "it left no message"
                lines.append(f"{row.row.name}, seed {run.seed}{what}, failed: {said} ({run.folder})")
    return lines


def _unmeasured(metrics: list[Metric], rows: list[MeasuredRow]) -> list[str]:
    """Why rows that were run lack a number, the metrics of one reason together."""
    ran = [row for row in rows if row.done]
    reasons: dict[str, list[str]] = {}
    for metric in metrics:
        key = metric.column.key
        lacking = [row for row, cell in zip(rows, metric.cells, strict=True) if row.done and cell.measured is None]
        for why in dict.fromkeys(row.why_missing(key) for row in lacking):
            names = [row.row.name for row in lacking if row.why_missing(key) == why]
            reasons.setdefault(why, []).append(metric.column.label + ("" if len(names) == len(ran) else f" ({', '.join(names)})"))
    return [f"Not measured: {', '.join(labels)}. {' '.join(why.split())}" for why, labels in reasons.items()]


def _unranked(metrics: list[Metric]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.unranked:
            reasons.setdefault(metric.unranked, []).append(metric.column.label)
    return [f"No best is marked under {', '.join(labels)}: {why}" for why, labels in reasons.items()]


def _notes(sweep: SweepFile) -> list[str]:
    return [*(f"{row.name}: {row.note}" for row in sweep.rows if row.note), *sweep.notes]


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={spelled(value)}" for key, value in settings.items())


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a tree under their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
