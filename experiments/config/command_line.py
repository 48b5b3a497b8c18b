"""The command line's plain parts: the text of --help, the message of an error, the jobs of --multirun. Imports nothing heavy."""

import linecache
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from experiments.config.checks import MAIN_GROUPS
from experiments.config.errors import TesseraError
from experiments.config.signatures import PACKAGES, ROOT
from tokenizer.weights import MissingWeightsError

COLUMNS = 110
SETTING = re.compile(r"^(\w+):\s*([^#\n]*?)\s*(?:\s#\s*(.*))?$", re.MULTILINE)


def prepare_process() -> None:
    """Settings of the whole process, before torch is imported.

    Our own packages tell what they do on standard error; only the first process of a run speaks of ordinary things.
    """
    # Threads that spin while they wait make a step 27 times slower as soon as another process wants a core (measured on two cores).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    for package in PACKAGES:
        logger = logging.getLogger(package)
        logger.setLevel(logging.INFO if is_first_process() else logging.WARNING)
        logger.handlers = [handler]


def is_first_process() -> bool:
    """Whether this process writes and speaks for the run, of all that a launcher started."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def run_command(command: Callable[[list[str]], int | None]) -> None:
    """Run a verb; ends the process. What the configuration has wrong is one message and exit status 1.

    Args:
        command: takes the words of the command line, gives the exit status.
    """
    prepare_process()
    try:
        status = command(sys.argv[1:]) or 0
    except KeyboardInterrupt:
        status = 130
    except Exception as error:
        text = message_for_user(error)
        if os.environ.get("TESSERA_TRACEBACK") or text is None:
            raise
        sys.stderr.write(f"error: {text}\n")
        status = 1
    sys.exit(status)


def message_for_user(error: Exception) -> str | None:
    """The message of an error that our own code raised on purpose; None for any other: it is a bug and keeps its traceback."""
    if isinstance(error, TesseraError | MissingWeightsError):
        return str(error)
    worker = re.search(r"(?s)^Caught \w+ in DataLoader worker.*File \"(.+?)\", line (\d+)(?:.*?)\n[\w.]+: (.+)$", str(error))
    if worker:
        return worker[3].strip() if _raised_by_us(worker[1], int(worker[2])) else None
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return str(error) if _raised_by_us(frame.filename, frame.lineno or 0) else None


def _raised_by_us(file: str, line: int) -> bool:
    ours = any(Path(file).is_relative_to(ROOT / package) for package in PACKAGES)
    return ours and linecache.getline(file, line).lstrip().startswith("raise ")


def choices_of(config_dir: Path, group: str) -> list[str]:
    """The names that may be written after `group=`."""
    folder = config_dir / group
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def help_text(verb: str, description: str, config_dir: Path, words: tuple[str, ...] = ()) -> str:
    """Usage, groups with their choices, settings with their defaults and comments, and examples.

    Args:
        verb: the name of the main file.
        description: one sentence.
        config_dir: where the configuration files lie.
        words: of the command line; one that chooses a task shows that task's groups and settings.
    """
    groups, settings = _contents(config_dir / f"{verb}.yaml")
    for group in [group for group in groups if group in MAIN_GROUPS]:
        chosen = next((word.partition("=")[2] for word in words if word.startswith(f"{group}=")), str(groups[group]))
        if (config_dir / group / f"{chosen}.yaml").is_file():
            more_groups, more_settings = _contents(config_dir / group / f"{chosen}.yaml")
            ours = {group: chosen, **more_groups}
            groups = {**ours, **groups, **ours}  # first in order, and with their own choices
            settings = {**settings, **more_settings}
    lines = [f"usage: python -m experiments.{verb} [group=choice] [key=value] [-m]", "", description, ""]
    if groups:
        lines += ["Groups (a star marks the default):"]
    for mount, default in groups.items():
        known = [f"{name}*" if name == default else name for name in choices_of(config_dir, mount.partition("@")[0])]
        lines += textwrap.wrap(f"{mount}={' | '.join(known)}", COLUMNS, initial_indent="  ", subsequent_indent="      ")
    shown = list(settings.values())
    if shown:
        lines += ["", "Settings:", *setting_lines(shown)]
    lines += ["", "Options:", "  -h, --help               this text"]
    lines += ["  --cfg job [--resolve]    print the configuration instead of using it", "  -m, --multirun           run every combination"]
    return "\n".join([*lines, "", "Examples:", *_examples(verb, groups, shown, config_dir), ""])


def _contents(path: Path) -> tuple[dict[str, str | None], dict[str, tuple[str, str, str]]]:
    """The groups of a main file with their choices, and its settings by key, each with default and comment."""
    text = path.read_text()
    content = yaml.safe_load(text) or {}
    plain = [key for key, value in content.items() if key != "defaults" and not isinstance(value, dict)]
    settings = {key: (key, value, comment) for key, value, comment in SETTING.findall(text) if key in plain}
    return _groups(content.get("defaults", [])), settings


def setting_lines(settings: list[tuple[str, str, str]]) -> list[str]:
    """Settings with their defaults and comments, in two columns."""
    width = max(len(f"{key}={value}") for key, value, _ in settings) + 2
    return [f"  {f'{key}={value}':<{width}}{comment}".rstrip() for key, value, comment in settings]


def _groups(defaults: list[Any]) -> dict[str, str | None]:
    entries = [entry for entry in defaults if isinstance(entry, dict)]
    return {re.sub(r"^(override |optional )*/?", "", str(name)): choice for entry in entries for name, choice in entry.items()}


def _examples(verb: str, groups: dict[str, str | None], settings: list[tuple[str, str, str]], config_dir: Path) -> list[str]:
    command = f"  python -m experiments.{verb}"
    known = {group: choices_of(config_dir, group) for group in groups if "@" not in group}
    group, names = next(((group, names) for group, names in known.items() if len(names) > 1), ("", []))
    numbers = [f"{key}={value}" for key, value, _ in settings if value.isdigit()]
    one = [f"{group}={name}" for name in names if name != groups[group]][:1]
    several = [f"{group}={','.join(names[:3])}"] if names else []
    return [" ".join([command, *one, *numbers[:1]]), f"{command} --cfg job --resolve", " ".join([command, "-m", *several])]


def run_jobs(verb: str, jobs: list[list[str]], labels: list[str]) -> int:
    """Run jobs one after another, each in a fresh process, and go on after a failed one.

    Args:
        verb: the module in experiments.
        jobs: the override words of each.
        labels: what tells them apart.

    Returns:
        0 if all succeeded, otherwise 1.
    """
    states = []
    for number, (label, job) in enumerate(zip(labels, jobs, strict=True), 1):
        _say(f"[{number}/{len(jobs)}] {label}")
        status = run_process([sys.executable, "-m", f"experiments.{verb}", *job])
        states.append("done" if status == 0 else f"failed (exit {status})")
    for label, state in zip(labels, states, strict=True):
        _say(f"{state:<18}{label}")
    return int(any(state != "done" for state in states))


def run_process(command: list[str]) -> int:
    """Run a command with our own output streams and give its exit status; a request to end is passed on and then obeyed."""
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


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
