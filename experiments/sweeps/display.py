"""The states of a sweep on the terminal: a table that changes where there is one, a line for every change where there is none."""

from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from experiments.runs.processes import last_line
from experiments.sweeps.entries import Entry, sync_duplicates

WIDTH = 140
"""Columns where there is no terminal that says."""
COLORS = {"done": "green", "running": "cyan", "failed": "red", "interrupted": "yellow", "weights absent": "dim", "not run": "dim"}


class Display:
    """Shows entries while they run; entered around the run."""

    def __init__(self, entries: list[Entry]) -> None:
        """Show `entries`, and change those that are the same run as another."""
        self.entries = entries
        self.console = plain_console()
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self.shown = [entry.state for entry in entries]

    def __enter__(self) -> "Display":
        if self.live:
            self.live.start()
        for state in dict.fromkeys(self.shown):
            names = [entry.job.name for entry in self.entries if entry.state == state]
            self._say(f"{state}: {', '.join(names)}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live:
            self.live.update("", refresh=True)
            self.live.stop()

    def update(self) -> None:
        """Show what changed."""
        sync_duplicates(self.entries)
        if self.live:
            self.live.update(table_of(self.entries, last_words=True), refresh=True)
        for place, entry in enumerate(self.entries):
            if entry.state != self.shown[place]:
                self.shown[place] = entry.state
                self._say(f"{entry.job.name}: {entry.state}{f', {entry.note}' if entry.note else ''}")

    def _say(self, text: str) -> None:
        if not self.live:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def plain_console() -> Console:
    """A console for tables, wide enough where the width is not known."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def table_of(entries: list[Entry], last_words: bool = False) -> Table:
    """Row, seed, state, seconds and folder of all entries.

    Args:
        entries: of the sweep.
        last_words: with what those that run said last, instead of their folders.
    """
    table = Table()
    for title in ("row", "seed", "state"):
        table.add_column(title)
    table.add_column("seconds", justify="right")
    table.add_column("says" if last_words else "folder", no_wrap=last_words, overflow="ellipsis" if last_words else "fold")
    for entry in entries:
        color = COLORS.get(entry.state, "")
        seconds = "" if entry.seconds is None else f"{entry.seconds:.0f}"
        told = str(entry.folder.path) if entry.folder else ""
        if last_words:
            told = last_line(entry.log) if entry.state == "running" else entry.note
        state = f"[{color}]{entry.state}[/]" if color else entry.state
        table.add_row(escape(entry.job.row.name), str(entry.job.seed), state, seconds, escape(told))
    return table
