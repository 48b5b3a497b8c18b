"""The command line of a verb: its options, which errors are one line, and the jobs of --multirun. Imports neither Hydra nor pydantic.

A verb is a file `experiments/<verb>.py` with `main("<verb>", run, description)` and its settings in `conf/<verb>.yaml`.
"""

import argparse
import atexit
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from experiments.config.errors import ConfigError, TesseraError, fault_of
from experiments.config.files import ConfigFolders
from experiments.config.help_text import help_text
from experiments.config.overrides import CONFIG_DIR, CONFIG_NAME, check_different, expand, expand_table, split
from experiments.config.packages import CONF, PACKAGES
from experiments.config.paths import with_home
from tokenizer.weights import MissingWeightsError

if TYPE_CHECKING:
    from experiments.config.compose import Composition

OPTIONS = "--help, --multirun (-m), --cfg job (-c), --resolve, --config-dir FOLDER, --config-name NAME (-cn)"


def prepare_process() -> None:
    """Set up logging on standard error and the environment, before torch is imported. Only the first process of a run logs everything."""
    # Threads that spin while they wait make a step 27 times slower as soon as another process wants a core (measured on two cores).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if os.environ.get("LOCAL_RANK", "0") != "0":
        end_with_parent()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    for package in PACKAGES:
        logger = logging.getLogger(package)
        logger.setLevel(logging.INFO if is_first_process() else logging.WARNING)
        logger.handlers = [handler]


def end_with_parent() -> None:
    """End this process as soon as its parent has ended, whatever its main thread does or waits for."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def is_first_process() -> bool:
    """Whether this process writes the files and the log of a run, of all that a launcher started."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def main(verb: str, run: "Callable[[Composition], int | None]", description: str, config_dir: Path = CONF) -> None:
    """The command line of a verb: compose and check its configuration, call `run`, and end the process with the status that it returns.

    An error that a user can correct is one line and exit status 1; any other keeps its traceback.

    Args:
        verb: name of the module in experiments and of the file in conf.
        run: does the work; imports what is heavy inside.
        description: one sentence for --help.
        config_dir: folder of the configuration files.
    """
    prepare_process()
    status: int | str = 1  # that of an error which keeps its traceback

    def end() -> None:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 1)

    if run.__module__ == "__main__":  # Python would destroy the modules one by one, which takes seconds with those of torch
        atexit.register(end)  # what is registered later runs before it
    try:
        status = _command(verb, run, description, config_dir, sys.argv[1:]) or 0
    except SystemExit as ended:
        status = 0 if ended.code is None else ended.code
    except KeyboardInterrupt:
        status = 130
    except (TesseraError, MissingWeightsError, OSError) as error:
        line = str(error) if isinstance(error, TesseraError | MissingWeightsError) else fault_of(error)
        if line is None or os.environ.get("TESSERA_TRACEBACK"):
            raise
        sys.stderr.write(f"error: {line}\n")  # a sweep looks for this word, see `experiments.runs.processes`
        status = 1
    sys.exit(status)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(reason=message, expected=OPTIONS, advice="settings are written key=value")


def _options(arguments: list[str]) -> argparse.Namespace:
    """The options, and as `overrides` all that remains; an added folder is one of the overrides, as it is recorded with the run."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-c", "--cfg", choices=["job"])
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("-cd", "--config-dir", action="append", default=[])
    parser.add_argument("-cn", "--config-name", action="append", default=[])
    options, others = parser.parse_known_args(arguments)
    unknown = next((word for word in others if word.startswith("-")), None)
    if unknown:
        raise ConfigError(unknown, reason="unknown option", expected=OPTIONS, advice="settings are written key=value")
    folders = [f"{CONFIG_DIR}{Path(with_home(folder)).resolve()}" for folder in options.config_dir]
    options.overrides = [*folders, *(f"{CONFIG_NAME}{name}" for name in options.config_name), *others]
    return options


def _command(verb: str, run: "Callable[[Composition], int | None]", description: str, config_dir: Path, arguments: list[str]) -> int | None:
    options = _options(arguments)
    overrides: list[str] = options.overrides
    if options.help:
        plain, added, name = split(overrides)
        sys.stdout.write(help_text(name or verb, description, ConfigFolders(config_dir, added), tuple(plain)))
        return 0
    check_different(overrides)
    if options.multirun and options.cfg:
        advice = "leave out --multirun; for the rows of a table: python -m experiments.sweep TABLE plan"
        raise ConfigError("--cfg", reason="prints the configuration of one run", advice=advice)
    if options.multirun:
        return _multirun(verb, overrides, config_dir)
    from experiments.config.compose import compose

    composition = compose(verb, overrides, config_dir)
    if options.cfg:
        import yaml

        printed = composition.config if options.resolve else composition.draft.raw
        sys.stdout.write(yaml.safe_dump(printed, sort_keys=False, allow_unicode=True))
        return 0
    from experiments.config.idle import report_idle, unread

    report_idle(overrides, unread(composition.draft, composition.settings))
    try:
        return run(composition)
    except ConfigError as error:
        raise composition.draft.explain(error) from error


def _multirun(verb: str, overrides: list[str], config_dir: Path) -> int:
    from experiments.config.compose import compose

    if verb == "train" and any(word.startswith("sweep=") for word in overrides):
        tables = expand_table(overrides, config_dir)
        return run_jobs("sweep", tables, [" ".join(words) for words in tables])  # which checks each itself
    jobs = expand(overrides, config_dir)
    labels = [" ".join(word for word in job if word not in overrides) or verb for job in jobs]
    for number, (label, job) in enumerate(zip(labels, jobs, strict=True), 1):
        place = f"job {number} of {len(jobs)} ({label}), none was started"
        try:
            compose(verb, job, config_dir)
        except ConfigError as error:
            raise error.at(place) from error
        except MissingWeightsError as error:
            raise MissingWeightsError(f"{place}: {error}") from error
    return run_jobs(verb, jobs, labels)


def run_jobs(verb: str, jobs: list[list[str]], labels: list[str]) -> int:
    """Run a verb with the overrides of each job, one after another in fresh processes, also after one that failed; 0 if all succeeded."""
    states = []
    for number, (label, job) in enumerate(zip(labels, jobs, strict=True), 1):
        _print(f"[{number}/{len(jobs)}] {label}")
        status = run_process([sys.executable, "-m", f"experiments.{verb}", *job])
        states.append("done" if status == 0 else f"failed (exit {status})")
    for label, state in zip(labels, states, strict=True):
        _print(f"{state:<18}{label}")
    return int(any(state != "done" for state in states))


def run_process(command: list[str]) -> int:
    """Run a command with our own output streams and return its exit status; a request to end is passed on and then obeyed."""
    process = subprocess.Popen(command)
    ended_by: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        ended_by.append(number)
        process.send_signal(number)

    previous = signal.signal(signal.SIGTERM, pass_on)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
    if ended_by:
        sys.exit(128 + ended_by[0])
    return status


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
