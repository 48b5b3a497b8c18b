"""The table of a report: under each metric the printed cells, the measured ones and the difference. No layout."""

import math
from dataclasses import dataclass, replace

from experiments.evaluation.cards import comparable
from experiments.reports.measured import Mean, MeasuredRow
from experiments.tables.columns import BITS_PER_TOKEN, Column
from experiments.tables.fields import number

MISPRINT = "†"
DIGITS = 3  # significant digits of a measured number, at least
MOST_DECIMALS = 6


@dataclass(frozen=True)
class Cell:
    """One row under one metric.

    Attributes:
        published: as printed, empty where the paper has none.
        corrected: intended value of a misprint; None if it is none.
        measured: in the unit of the printed cells; None if there is no number.
        difference: measured minus published, a misprint corrected.
        decimals: of the measured number and the difference.
        best: whether it is the best measured one of its column.
    """

    published: str
    corrected: str | None
    measured: Mean | None = None
    difference: float | None = None
    decimals: int = 0
    best: bool = False

    @property
    def published_text(self) -> str:
        """As printed, a misprint marked."""
        return self.published + (MISPRINT if self.corrected is not None else "")

    @property
    def measured_text(self) -> str:
        """The mean, and of several seeds ± sample standard deviation, unless that is 0, and their number."""
        if self.measured is None:
            return ""
        text = f"{self.measured.value:.{self.decimals}f}"
        if self.measured.spread is None:
            return text
        return f"{text}{f' ± {self.measured.spread:.{self.decimals}f}' if self.measured.spread else ''} ({self.measured.seeds})"

    @property
    def difference_text(self) -> str:
        """With its sign."""
        return "" if self.difference is None else f"{self.difference:+.{self.decimals}f}"


@dataclass(frozen=True)
class MeasuredColumn:
    """A column of the table with its cells, a row each.

    Attributes:
        column: of the sweep file.
        cells: in the order of the rows.
        unranked: why no cell is marked as the best; empty if one is, or if neither more nor less is better.
    """

    column: Column
    cells: list[Cell]
    unranked: str

    @property
    def has_published(self) -> bool:
        """Whether the paper prints any cell."""
        return any(cell.published for cell in self.cells)

    @property
    def has_measured(self) -> bool:
        """Whether any row has a number."""
        return any(cell.measured for cell in self.cells)

    @property
    def has_difference(self) -> bool:
        """Whether any row has both."""
        return any(cell.difference is not None for cell in self.cells)


def decimals_of(cell: str) -> int:
    """How many decimals a printed cell has."""
    return len(cell.partition(".")[2]) if number(cell) is not None else 0


def make_column(
    column: Column, printed: list[str], rows: list[MeasuredRow], digits: int = DIGITS, same_rate: bool = True
) -> MeasuredColumn:
    """Fill one column.

    Args:
        column: the metric.
        printed: cells of the paper, empty where it has none.
        rows: as measured.
        digits: significant digits of a measured number, at least.
        same_rate: whether only rows with equal bits per token have a best.
    """
    finest = max((decimals_of(cell) for cell in printed), default=0)
    cells = [_cell(column, cell, finest, row, digits) for cell, row in zip(printed, rows, strict=True)]
    why, best = _ranking(column, rows, cells, same_rate)
    return MeasuredColumn(column, [replace(cell, best=at in best) for at, cell in enumerate(cells)], why)


def _cell(column: Column, printed: str, finest: int, row: MeasuredRow, digits: int) -> Cell:
    """Measured numbers have the decimals of the printed cell beside them, and more where they or their spread would not show."""
    correction = row.row.corrections.get(column.key)
    corrected = correction.cell if correction else None
    mean = row.mean(column.key)
    if mean is None:
        return Cell(printed, corrected)
    spread = None if mean.spread is None else mean.spread * column.factor
    measured = Mean(mean.value * column.factor, spread, mean.seeds)
    needed = [0 if measured.value.is_integer() else digits - 1 - math.floor(math.log10(abs(measured.value)))]
    needed += [-math.floor(math.log10(spread))] if spread else []
    decimals = max(decimals_of(printed) if printed else finest, min(max(needed), MOST_DECIMALS), 0)
    published = number(corrected or printed)
    return Cell(printed, corrected, measured, None if published is None else measured.value - published, decimals)


def _ranking(column: Column, rows: list[MeasuredRow], cells: list[Cell], same_rate: bool) -> tuple[str, list[int]]:
    """Why no number of a column is marked as the best, and the places of those that are."""
    values = {place: cell.measured.value for place, cell in enumerate(cells) if cell.measured}
    if column.better == "none" or len(values) < 2:
        return "", []
    cards = [run.cards[column.key] for row in rows for run in row.measured if column.key in run.cards]
    fields = dict.fromkeys(name for card in cards[1:] for name in comparable(cards[0], card))
    if fields:
        return f"cards differ in {', '.join(fields)}", []
    rates = {round(mean.value, 3) for place in values if (mean := rows[place].mean(BITS_PER_TOKEN))}
    if same_rate and len(rates) > 1:
        return f"bits per token differ, {min(rates):g} to {max(rates):g}", []
    best = (min if column.better == "lower" else max)(values.values())
    return "", [place for place, value in values.items() if value == best]
