"""A report on the terminal; the metrics are folded into several tables where one is wider than the terminal."""

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.reports.formats import Block, blocks, folded, has_best
from experiments.reports.report import Report

WIDTH = 140
"""Of output that is no terminal."""
FRAME = 3
"""Signs that a column takes beside its text."""


def show_report(report: Report, console: Console | None = None) -> None:
    """Print a report.

    Args:
        report: what is said.
        console: where; standard output if None.
    """
    console = console or Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    sweep = report.sweep
    console.print(Text(sweep.title, "bold"))
    console.print(Text(f"{sweep.source}; {sweep.name}; scale={report.scale}"))
    console.print(Text(report.legend + (" *: the best measured." if has_best(report) else "")))
    for part in folded(blocks(report), console.width - 1, _width):
        console.print(_table(part, len(report.rows)))
    if report.claims:
        claims = Table(title="What the paper concludes", title_justify="left", title_style="bold", show_lines=True)
        for head in ("claim", "published cells", "measured", "measured values"):
            claims.add_column(head, overflow="fold")
        for claim in report.claims:
            claims.add_row(*(Text(text) for text in (claim.text, claim.published, claim.measured, claim.values)))
        console.print(claims)
    for title, lines in (("Law", report.law_lines), ("What the numbers rest on", report.basis), ("Notes", report.remarks)):
        if lines:
            console.print(Text(title, "bold"))
        for line in lines:
            console.print(Text(f"  {line}"))


def _width(block: Block) -> int:
    return sum(
        max(len(line) for line in [*_head(block, place).split("\n"), *(text for text, _ in strip.cells)]) + FRAME + 1
        for place, strip in enumerate(block.strips)
    )


def _head(block: Block, place: int) -> str:
    """The head of a column in lines: metric, what of it, what is subtracted."""
    head = block.strips[place].head.replace(" (", "\n(")
    return f"{block.head}\n{head}".strip("\n") if place == 0 else f"\n{head}" if block.head else head


def _table(part: list[Block], rows: int) -> Table:
    table = Table()
    for block in part:
        for place in range(len(block.strips)):
            table.add_column(Text(_head(block, place)), justify="right" if block.head else "left", no_wrap=True)
    strips = [strip for block in part for strip in block.strips]
    for at in range(rows):
        cells = [strip.cells[at] for strip in strips]
        table.add_row(*(Text(f"{text}*", "bold") if best else Text(text) for text, best in cells))
    return table
