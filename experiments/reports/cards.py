"""The measurement details of a table: the fields of the cards of its numbers, each once, and what differs by row."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.evaluation.cards import NOT_COMPARED
from experiments.reports.measured import MeasuredRow
from experiments.tables.columns import Column

# Fields that usually agree in all metrics; the others describe how one metric is computed.
OF_ALL = ("image_size", "n", "reference", "transform", "subject", "dtype", "guidance")


@dataclass(frozen=True)
class _Carded:
    """A card, with the row and the column of its number."""

    row: str
    column: str
    card: Mapping[str, Any]


def card_lines(rows: list[MeasuredRow], columns: list[Column]) -> list[str]:
    """One line for what all numbers share, then one for each way to compute, then what differs; empty if nothing was measured."""
    every = [
        _Carded(row.row.name, column.label, run.cards[column.key])
        for column in columns
        for row in rows
        for run in row.measured
        if column.key in run.cards
    ]
    if not every:
        return []
    shared = [name for name in OF_ALL if len(_by_value(every, name)) == 1]
    lines = ["Every number: " + _fields(every[0].card, shared)]
    own, differing = {}, {}
    for label in dict.fromkeys(carded.column for carded in every):
        cards = [carded for carded in every if carded.column == label]
        fields = [name for name in cards[0].card if name not in (*shared, *NOT_COMPARED, "metric")]
        own[label] = _fields(cards[0].card, [name for name in fields if len(_by_value(cards, name)) == 1])
        spread = [name for name in fields if len(_by_value(cards, name)) > 1]
        differing[label] = "; ".join(f"{name} differs: {_rows_by_value(cards, name)}" for name in spread)
    lines += [*_grouped(own), *_grouped(differing)]
    for name, title in (("losses", "Losses"), ("protocol", "Protocol"), ("seed", "Seeds"), ("code_version", "Code")):
        known = [carded for carded in every if carded.card.get(name) is not None]  # numbers of a probe have no losses, others no protocol
        values = list(_by_value(known, name))
        agreed = name == "seed" or len(values) == 1
        lines += [f"{title}: {', '.join(values) if agreed else _rows_by_value(known, name)}"] if values else []
    return lines


def _by_value(cards: Iterable[_Carded], name: str) -> dict[str, list[str]]:
    """The values of a field, each with the rows that have it."""
    rows_by_value: dict[str, list[str]] = {}
    for carded in cards:
        rows = rows_by_value.setdefault(str(carded.card.get(name)), [])
        if carded.row not in rows:
            rows.append(carded.row)
    return rows_by_value


def _rows_by_value(cards: Iterable[_Carded], name: str) -> str:
    return "; ".join(f"{value} ({', '.join(rows)})" for value, rows in _by_value(cards, name).items())


def _fields(card: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {card[name]}" for name in names if card.get(name) is not None)


def _grouped(texts: Mapping[str, str]) -> list[str]:
    """`label, label: text`, the labels of one text together."""
    return [f"{', '.join(label for label in texts if texts[label] == text)}: {text}" for text in dict.fromkeys(texts.values()) if text]
