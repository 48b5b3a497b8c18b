"""A limit on the time of reading one file."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from experiments.config.errors import DataError

READ_SECONDS = 60.0  # of one image; a disk or network that answers at all is faster
ANSWER_SECONDS = 600.0  # of one batch of a reading process that no signal can interrupt


class SlowRead(DataError):  # noqa: N818
    """A file that could not be read within the time limit; unlike a damaged one it ends the run, because it may be readable again."""


@contextmanager
def time_limit(path: Path, seconds: float | None = None) -> Iterator[None]:
    """Interrupt a block that reads `path`; only in the main thread of a process, where signals arrive.

    Args:
        path: the file that is read.
        seconds: the limit; by default `READ_SECONDS`.

    Raises:
        SlowRead: the block took longer.
    """
    limit = READ_SECONDS if seconds is None else seconds
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise SlowRead(path, f"reading it took more than {limit:g} seconds; expected a file system that answers", "data.root")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
