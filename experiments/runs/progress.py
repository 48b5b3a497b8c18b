"""How far a long loop is: a bar on a terminal, a line every half minute where there is none. Imports no torch."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30


def terminal_bar() -> Progress | None:
    """A bar that is not started yet, None where there is no terminal."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=console) if console.is_terminal else None


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Gives a function to call with the number of steps just done.

    Args:
        total: number of steps.
        what: is counted, a plural.
    """
    shown = terminal_bar()
    if shown is not None:
        with shown as bar:
            number = bar.add_task(what, total=total)
            yield lambda steps: bar.advance(number, steps)
        return
    done, line_at = 0, time.monotonic()

    def advance(steps: int) -> None:
        nonlocal done, line_at
        done += steps
        if time.monotonic() - line_at > SECONDS_BETWEEN_LINES:
            line_at = time.monotonic()
            log.info("%s: %d of %d", what, done, total)

    yield advance
