"""A training in a process of its own: how it ends, and how it is asked to."""

import os
import signal
import subprocess
import threading

import pytest

from experiments.runs import processes
from experiments.runs.processes import TrainingFailedError, how_it_ended, last_line, run_training


class Waiting(processes.ProcessTree):
    """Starts something that waits in place of a training."""

    def __init__(self, command, log, environment) -> None:
        self.process = subprocess.Popen(["sleep", "20"], start_new_session=True)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()


def test_a_failed_training_is_one_error_with_its_last_line(tmp_path):
    log = tmp_path / "train.log"
    with pytest.raises(TrainingFailedError, match=r"error: nonsense=1: .*no key") as caught:
        run_training(["nonsense=1"], log)
    assert (caught.value.status, caught.value.log) == (1, log)
    assert "experiments.train nonsense=1" in log.read_text()


def test_a_request_to_end_is_passed_on_and_then_obeyed(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "ProcessTree", Waiting)
    with pytest.raises(SystemExit) as ended:
        run_training([], tmp_path / "train.log")
    assert ended.value.code == 128 + signal.SIGTERM


FOLLOWED = "error: lr=x: expected a number\nHINT: prepend srun\n"
TRACE = "Traceback (most recent call last):\n  File 'a.py', line 1\n    b()\nValueError: too wide\nleaked semaphores\n"


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (1, FOLLOWED, "exit 1: error: lr=x: expected a number"),
        (1, TRACE, "exit 1: ValueError: too wide"),
        (1, f"{TRACE}$ python again\nno memory\n", "exit 1: no memory"),
        (1, "", "exit 1"),
        (0, "update 5\n", "exit 0 without a whole result: update 5"),
        (-signal.SIGKILL, FOLLOWED, "ended by SIGKILL"),
        (128 + signal.SIGKILL, "HINT: prepend srun\n", "ended by SIGKILL"),
        (-signal.SIGSEGV, "HINT: prepend srun\n", "ended by SIGSEGV"),
        (255, "no host", "exit 255: no host"),
    ],
)
def test_a_failure_is_described_by_its_own_error_alone(status, text, expected, tmp_path):
    log = tmp_path / "log"
    log.write_text(f"$ python first\nerror: earlier\n$ python a.py\n{text}")
    assert how_it_ended(status, log) == expected


def test_last_line_is_the_last_one_with_text(tmp_path):
    log = tmp_path / "log"
    assert last_line(log) == ""
    log.write_bytes(b"x" * 9000 + b"\nfirst\n\x1b[31m 10 %\r 20 % \xff\x1b[0m\n\n")
    assert last_line(log) == "20 % \ufffd"
