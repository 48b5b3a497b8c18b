"""Results on the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from experiments.evaluation import metrics
from experiments.evaluation.metrics.metric import Metric
from experiments.evaluation.results import not_computed, skipped_of
from experiments.runs.terminal import console, print_line


def show(result: Mapping[str, Any]) -> None:
    """Print the table of a `result.json` on standard output; below it a line for each reason of absent metrics, and unreadable images."""
    console().print(_table(result))
    unreadable = [f"left out, could not be read: {key}" for key in result.get("unreadable", [])]
    unreadable += [f"not trained on, could not be read: {key}" for key in result.get("unreadable_in_training", [])]
    for line in [*not_computed(skipped_of(result).items()), *unreadable]:
        print_line(line)


def _table(result: Mapping[str, Any]) -> Table:
    """A row for each metric, a column for averaged and one for trained weights, of each number of tokens."""
    values, cards = result["metrics"], result["cards"]
    prefixes = list(dict.fromkeys(key.partition("/")[0] for key in values if key.startswith("val")))
    table = Table()
    table.add_column("metric")
    for prefix in prefixes:
        table.add_column(_heading(prefix, [card for key, card in cards.items() if key.startswith(f"{prefix}/")]), justify="right")
    table.add_column("n", justify="right")
    for metric in _rows():
        keys = [f"{prefix}/{metric.key}" for prefix in prefixes]
        if not any(key in values for key in keys):
            continue
        n = next((_count(cards[key]) for key in keys if key in cards), "")
        table.add_row(metric.key, *(_printed(metric, values.get(key)) for key in keys), n)
    return table


def _heading(prefix: str, cards: list[Mapping[str, Any]]) -> str:
    """The weights of a subject, and its number of tokens if that was set."""
    weights = "raw" if prefix.startswith("val_raw") or any(card.get("subject") == "raw" for card in cards) else "EMA"
    counts = [str(card["num_tokens"]) for card in cards if "num_tokens" in card]
    return f"{weights}, {counts[0]} tokens" if counts else weights


def _count(card: Mapping[str, Any]) -> str:
    """Number of images, and of those with a label where that matters."""
    return f"{card['n']}, {card['labeled']} labeled" if "labeled" in card else str(card["n"])


def _rows() -> list[type[Metric]]:
    """The metrics that the table shows, each key once; `result.json` has the others too."""
    listed = [each for each in (*metrics.LIKELIHOOD_METRICS, *metrics.METRICS) if each.in_terminal]
    return list({each.key: each for each in reversed(listed)}.values())[::-1]


def _printed(metric: type[Metric], value: float | None) -> str:
    if value is None:
        return ""
    return f"{100 * value:.2f} %" if metric.unit == "%" else f"{value:.4g}" if abs(value) < 100 else f"{value:.1f}"
