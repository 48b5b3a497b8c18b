"""The lock of a folder that one process may write at a time. Imports no torch."""

import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from experiments.config.errors import RunFolderError
from experiments.config.parsing import parse_json
from tokenizer.files import made_folder, naming, other_kind

log = logging.getLogger(__name__)

LOCK, MOST_CHARACTERS = "lock.json", 4096
RETRIES, RETRY_SECONDS = 25, 0.02  # of a lock that is refused


def is_locked(folder: Path) -> bool:
    """Whether a process holds the lock of a folder."""
    file = folder / LOCK
    if other_kind(file):
        return False
    try:
        with open(file) as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:  # there is no such file, perhaps not any more
        return isinstance(error, BlockingIOError)
    return False


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Lock a folder for this process. The system releases the lock when the process ends.

    A folder that is made for the lock and in which nothing was written is removed again.

    Raises:
        RunFolderError: another process holds it; names host, process and time.
    """
    file = folder / LOCK
    with made_folder(folder), _locked(file) as opened:
        _HELD.add(opened)
        try:
            with naming(file):
                opened.truncate(0)
                owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
                os.write(opened.fileno(), json.dumps(owner).encode())  # not buffered: closing the file would fail again
            yield
        finally:
            _HELD.discard(opened)
            file.unlink(missing_ok=True)


_HELD: set[IO[str]] = set()  # lock files of this process


def _close_locks() -> None:
    """A reading process that outlives its owner must not hold a lock."""
    for opened in _HELD:
        opened.close()
    _HELD.clear()


os.register_at_fork(after_in_child=_close_locks)


@contextmanager
def _locked(file: Path) -> Iterator[IO[str]]:
    """The lock file, locked as long as it is open."""
    while True:
        with _opened(file) as opened:
            _lock(opened, file)
            # Its last owner may have removed the file after it was opened here: then the lock is on a file without a name.
            if _is_file_at(file, opened):
                yield opened
                return


def _opened(file: Path) -> IO[str]:
    file.parent.mkdir(parents=True, exist_ok=True)  # the process that made it for its own lock may have removed it
    if kind := other_kind(file):
        raise RunFolderError(file.parent, f"its {file.name} is {kind}, expected a file; remove it")
    return open(file, "a+")


def _is_file_at(file: Path, opened: IO[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(opened.fileno()), file.stat())
    except FileNotFoundError:
        return False


def _lock(opened: IO[str], file: Path) -> None:
    """Lock an open file. Whoever looks whether a folder is in use locks it for an instant, so that a refusal is tried again."""
    for patience in (*[RETRY_SECONDS] * RETRIES, 0.0):
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(patience)
        except OSError as error:
            log.warning("%s cannot be locked (%s): start no second process on this run", file, error)
            return
    opened.seek(0)
    try:
        owner = parse_json(opened.read(MOST_CHARACTERS))
        described = f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (ValueError, KeyError, TypeError):
        described = "another process"
    raise RunFolderError(file.parent, f"in use by {described}; wait for it, or end it")
