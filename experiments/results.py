"""Results on the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

PERCENT = ("codebook_usage", "codebook_usage_product")
SUBJECTS = {"val": "EMA", "val_raw": "raw"}


def show(table: Table) -> None:
    """Print on standard output."""
    Console().print(table)


def results_table(result: Mapping[str, Any]) -> Table:
    """A row a metric, a column for averaged and trained weights; below, what is missing and why.

    Args:
        result: the content of a `result.json`.
    """
    metrics = result["metrics"]
    names = list(dict.fromkeys(key.split("/", 1)[1] for key in metrics if key.split("/")[0] in SUBJECTS))
    notes = [f"{name}: {why}" for name, why in result.get("skipped", {}).items()]
    notes += [f"left out, could not be read: {key}" for key in result.get("unreadable", [])]
    table = Table(caption="\n".join(notes) or None, caption_justify="left")
    table.add_column("metric")
    for title in SUBJECTS.values():
        table.add_column(title, justify="right")
    table.add_column("n", justify="right")
    for name in names:
        card = result["cards"].get(f"val/{name}", {})
        table.add_row(name, *(_printed(name, metrics.get(f"{prefix}/{name}")) for prefix in SUBJECTS), str(card.get("n", "")))
    return table


def _printed(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{100 * value:.2f} %" if name in PERCENT else f"{value:.4g}" if abs(value) < 100 else f"{value:.1f}"
