"""The states of a sweep on the terminal: a table that changes where there is one, a line for every change where there is none."""

from types import TracebackType

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from experiments.runs.processes import last_line
from experiments.runs.terminal import console, print_line
from experiments.sweeps.entries import Entry, sync_duplicates

COLORS = {"done": "green", "running": "cyan", "failed": "red", "interrupted": "yellow", "weights absent": "dim", "not run": "dim"}


class Display:
    """Shows entries while they run; entered around the run."""

    def __init__(self, entries: list[Entry]) -> None:
        """
        Args:
            entries: entries of the sweep; those that are the same run as another get its state.
        """
        self.entries = entries
        terminal = console()
        self.live = Live(console=terminal, auto_refresh=False) if terminal.is_terminal else None
        self.states = [entry.description for entry in entries]

    def __enter__(self) -> "Display":
        if self.live:
            self.live.start()
        for state in dict.fromkeys(self.states):
            names = [entry.job.name for entry, own in zip(self.entries, self.states, strict=True) if own == state]
            self._print(f"{state}: {', '.join(names)}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live:
            self.live.update("", refresh=True)
            self.live.stop()

    def update(self) -> None:
        """Show changed states."""
        sync_duplicates(self.entries)
        if self.live:
            self.live.update(table_of(self.entries, last_lines=True), refresh=True)
        for place, entry in enumerate(self.entries):
            if entry.description != self.states[place]:
                self.states[place] = entry.description
                self._print(f"{entry.job.name}: {entry.description}{f', {entry.note}' if entry.note else ''}")

    def _print(self, text: str) -> None:
        if not self.live:
            print_line(text)


def table_of(entries: list[Entry], last_lines: bool = False) -> Table:
    """Row, seed, state with the stage that runs, seconds and folder of all entries.

    Args:
        entries: of the sweep.
        last_lines: show the last log line of those that run instead of their folders.
    """
    table = Table()
    for title in ("row", "seed", "state"):
        table.add_column(title)
    table.add_column("seconds", justify="right")
    table.add_column("log" if last_lines else "folder", no_wrap=last_lines, overflow="ellipsis" if last_lines else "fold")
    for entry in entries:
        color = COLORS.get(entry.state, "")
        seconds = "" if entry.seconds is None else f"{entry.seconds:.0f}"
        text = str(entry.folder.path) if entry.folder else ""
        if last_lines:
            text = last_line(entry.log) if entry.state == "running" else entry.note
        state = f"[{color}]{entry.description}[/]" if color else entry.description
        table.add_row(escape(entry.job.row.name), str(entry.job.seed), state, seconds, escape(text))
    return table
