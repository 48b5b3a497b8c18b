"""A training in processes of its own, so that it may use several devices, and leaves nothing behind in this one."""

import logging
import os
import sys
import time
from pathlib import Path

from experiments.sweeps.launchers import ProcessTree
from experiments.sweeps.runner import SECONDS_BETWEEN_LOOKS, Requests, last_line

log = logging.getLogger(__name__)


class TrainingFailedError(ValueError):
    """A training that ended without a result."""


def run_training(words: list[str], said: Path) -> None:
    """Run `experiments.train` to its end.

    A request to end is passed on; the training saves and leaves, and so does this process.

    Args:
        words: of its command line.
        said: the file that its output goes to.

    Raises:
        TrainingFailedError: it failed; says its last line.
    """
    tree = ProcessTree([sys.executable, "-m", "experiments.train", *words], said, os.environ)
    passed_on = 0
    with Requests() as requests:
        while (status := tree.poll()) is None:
            for number in requests.received[passed_on:]:
                tree.kill() if passed_on else tree.interrupt(number)
                passed_on += 1
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if requests.received:
        sys.exit(128 + requests.received[0])
    if status:
        raise TrainingFailedError(f"its training ended with status {status}: {last_line(said)}; see {said}")
