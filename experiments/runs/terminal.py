"""Everything that a verb prints: tables and lines on standard output, and progress of long loops. Imports no torch."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

log = logging.getLogger(__name__)

WIDTH = 140  # columns of output that is no terminal
SECONDS_BETWEEN_LINES = 30


def console() -> Console:
    """A console on standard output, wide enough for tables where there is no terminal."""
    terminal = Console(highlight=False)
    return terminal if terminal.is_terminal else Console(width=WIDTH, highlight=False)


def print_line(text: str) -> None:
    """Print one line of plain text on standard output, not wrapped."""
    console().print(text, soft_wrap=True, markup=False)


def progress_bar() -> Progress | None:
    """A bar on standard error that is not started yet; None where there is no terminal."""
    terminal = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=terminal) if terminal.is_terminal else None


@contextmanager
def progress(total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Progress of a long loop: a bar on a terminal, a line every half minute elsewhere. `unit` names the steps, in the plural.

    Yields:
        A function to call with the number of steps just done.
    """
    bar = progress_bar()
    if bar is not None:
        with bar:
            number = bar.add_task(unit, total=total)
            yield lambda steps: bar.advance(number, steps)
        return
    done, line_at = 0, time.monotonic()

    def advance(steps: int) -> None:
        nonlocal done, line_at
        done += steps
        if time.monotonic() - line_at > SECONDS_BETWEEN_LINES:
            line_at = time.monotonic()
            log.info("%s: %d of %d", unit, done, total)

    yield advance
