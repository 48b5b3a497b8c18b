"""A report on the terminal; the metrics are folded into several tables where one is wider than the terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.reports.formats import Block, blocks
from experiments.reports.report import Report
from experiments.runs.terminal import console as standard_console

FRAME = 3  # characters of a column beside its text


def show_report(report: Report, console: Console | None = None) -> None:
    """Print a report.

    Args:
        report: its content.
        console: where; standard output if None.
    """
    console = console or standard_console()
    console.print(Text(report.title, "bold"))
    console.print(Text(report.source))
    console.print(Text(report.legend + (" *: the best measured." if report.has_best else "")))
    for part in _folded(blocks(report), console.width - 1):
        console.print(_table(part, len(report.rows)))
    for table in report.tables:
        lines = Table(title=table.title, title_justify="left", title_style="bold", show_lines=True)
        for head in table.heads:
            lines.add_column(head, overflow="fold")
        for row in table.rows:
            lines.add_row(*map(Text, row))
        console.print(lines)
    for title, texts in report.sections:
        console.print(Text(title, "bold"))
        for text in texts:
            console.print(Text(f"  {text}"))


def _folded(all_blocks: list[Block], width: int) -> list[list[Block]]:
    """Blocks that fit side by side; the labels begin every part, the states end the first."""
    labels, *metrics, states = all_blocks
    parts, part = [], [labels]
    left = width - _width(labels) - _width(states)
    for block in metrics:
        if _width(block) > left and len(part) > 1:
            parts.append(part)
            part, left = [labels], width - _width(labels)
        part.append(block)
        left -= _width(block)
    parts.append(part)
    parts[0].append(states)
    return parts


def _width(block: Block) -> int:
    return sum(
        max(len(line) for line in [*_head(block, place).split("\n"), *(text for text, _ in strip.cells)]) + FRAME + 1
        for place, strip in enumerate(block.strips)
    )


def _head(block: Block, place: int) -> str:
    """The head of a column in lines: metric, published or measured, subtracted settings."""
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
