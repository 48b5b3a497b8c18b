"""Process trees with their logs, and the signals that are passed on to them."""

import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from experiments.config.errors import TesseraError

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.2
SIGNALS = (signal.SIGINT, signal.SIGTERM)
END_OF_LOG = 16384  # bytes
COMMAND, ERROR = "$ ", "error: "  # beginnings of lines of a log: a command, and the error that ended it
SIGNAL_OFFSET = 128  # a process that ends another one by a signal has this status plus the signal's number


class ProcessTree:
    """A process and its descendants, in a new session: a Ctrl-C at the terminal does not reach them."""

    def __init__(self, command: list[str], log: Path, environment: Mapping[str, str]) -> None:
        """Start `command`; its output is appended to `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a") as file:
            file.write(COMMAND + shlex.join(command).replace("\n", " ") + "\n")
            file.flush()
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=dict(environment), start_new_session=True
            )

    def poll(self) -> int | None:
        """The exit status, None while it runs. Processes that a failed one leaves behind are killed."""
        status = self.process.poll()
        if status:
            self.kill()
        return status

    def interrupt(self, number: int) -> None:
        """Send a signal to the first process alone: it ends the others, and processes that read images must not end before it."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill all of them."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)


@contextmanager
def end_requests() -> Iterator[list[int]]:
    """Record the signals that ask for an end in a list, instead of ending."""
    received: list[int] = []
    earlier = {number: signal.signal(number, lambda caught, _frame: received.append(caught)) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


class TrainingFailedError(TesseraError):
    """A training that ended without a result; `status` is the exit status of its process, `log` the file with its output."""

    def __init__(self, reason: str, status: int | None = None, log: Path | None = None) -> None:
        self.reason, self.status, self.log = reason, status, log
        super().__init__(reason if log is None else f"{reason}; see {log}")


def run_training(overrides: list[str], output: Path) -> None:
    """Run `experiments.train` to its end, its output appended to a file. A request to end is passed on.

    The training then saves and ends, and so does this process.

    Raises:
        TrainingFailedError: it failed; quotes its last line.
    """
    tree = ProcessTree([sys.executable, "-m", "experiments.train", *overrides], output, os.environ)
    passed_on = 0
    with end_requests() as received:
        while (status := tree.poll()) is None:
            for number in received[passed_on:]:
                tree.kill() if passed_on else tree.interrupt(number)
                passed_on += 1
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if received:
        sys.exit(128 + received[0])
    if status:
        raise TrainingFailedError(f"its training failed, {how_it_ended(status, output)}", status, output)


def how_it_ended(status: int, log: Path) -> str:
    """The exit status of the last command of a log, or the signal that ended it, and its error.

    A process that was killed wrote nothing about its end: its last line may be about anything, and is left out.
    """
    number = -status if status < 0 else status - SIGNAL_OFFSET
    if number in [int(each) for each in signal.Signals]:
        return f"ended by {signal.Signals(number).name}"
    ended = f"exit {status}" if status else "exit 0 without a whole result"
    error = _last_error(log)
    return f"{ended}: {error}" if error else ended


def last_line(file: Path) -> str:
    """The last line of a log that is not blank; empty if there is none."""
    return next((line.strip() for line in reversed(_last_lines(file)) if line.strip()), "")


def _last_error(log: Path) -> str:
    """The error of the last command: its own line or that of its traceback, which others may follow, or its last line."""
    lines = _last_lines(log)
    start = max((number for number, line in enumerate(lines) if line.startswith(COMMAND)), default=-1)
    lines = lines[start + 1 :]
    errors = [line for line in lines if line.startswith(ERROR)]
    traces = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    if not errors and traces:
        errors = [line for line in lines[traces[-1] + 1 :] if line.strip() and not line.startswith(" ")][:1]
    others = [line for line in lines if line.strip()]
    return [*others, *errors][-1].strip() if others else ""


def _last_lines(file: Path) -> list[str]:
    """The lines at the end of a log, without control sequences of terminals."""
    if not file.is_file():
        return []
    with open(file, "rb") as opened:
        opened.seek(max(0, file.stat().st_size - END_OF_LOG))
        text = opened.read().decode(errors="replace")
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r", "\n").splitlines()
