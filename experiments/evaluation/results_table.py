"""Results on the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from experiments.evaluation import metrics
from experiments.evaluation.metrics.metric import Metric
from experiments.evaluation.results import not_computed, skipped_of
from experiments.runs.terminal import console, print_line

PREFIXES = ("val", "val_raw")


def show(result: Mapping[str, Any]) -> None:
    """Print the table of a `result.json` on standard output; below it a line for each reason of absent metrics, and unreadable images."""
    console().print(_table(result))
    unreadable = [f"left out, could not be read: {key}" for key in result.get("unreadable", [])]
    for line in [*not_computed(skipped_of(result).items()), *unreadable]:
        print_line(line)


def _table(result: Mapping[str, Any]) -> Table:
    """A row for each metric, a column for averaged and one for trained weights."""
    values, cards = result["metrics"], result["cards"]
    prefixes = [prefix for prefix in PREFIXES if any(key.startswith(f"{prefix}/") for key in values)]
    table = Table()
    table.add_column("metric")
    for prefix in prefixes:
        subjects = [card.get("subject") for key, card in cards.items() if key.startswith(f"{prefix}/")]
        table.add_column("raw" if prefix == "val_raw" or "raw" in subjects else "EMA", justify="right")
    table.add_column("n", justify="right")
    for metric in _rows():
        if not any(f"{prefix}/{metric.key}" in values for prefix in prefixes):
            continue
        card = cards.get(f"val/{metric.key}", {})
        table.add_row(metric.key, *(_printed(metric, values.get(f"{prefix}/{metric.key}")) for prefix in prefixes), str(card.get("n", "")))
    return table


def _rows() -> list[type[Metric]]:
    """The metrics that the table shows, each key once; `result.json` has the others too."""
    listed = [each for each in (*metrics.LIKELIHOOD_METRICS, *metrics.METRICS) if each.in_terminal]
    return list({each.key: each for each in reversed(listed)}.values())[::-1]


def _printed(metric: type[Metric], value: float | None) -> str:
    if value is None:
        return ""
    return f"{100 * value:.2f} %" if metric.unit == "%" else f"{value:.4g}" if abs(value) < 100 else f"{value:.1f}"
