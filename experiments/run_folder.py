"""The run folder: a run's identity, its files and its state. Imports no torch.

The identity is a hash of everything that changes numbers, so that the same command finds its folder again and one run
serves every table whose rows are the same run. Every file is written beside its place and renamed.
"""

import hashlib
import json
import logging
import os
import platform
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

log = logging.getLogger(__name__)

RESULT = "result.json"
CONFIG = "config.yaml"
CHECKPOINTS = "checkpoints"
LOCK = "lock.json"


class RunFolderError(ValueError):
    """A run folder that cannot be used as asked."""


def relevant(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved configuration that changes numbers: no devices, workers, paths, loggers or names."""
    data = {key: value for key, value in config["data"].items() if key != "root"}
    own = {key: config[key] for key in ("batch_size", "init_from")}
    return {"task": config["task"], "data": data, "precision": config["trainer"]["precision"], **own}


def identity(config: Mapping[str, Any], fingerprint: str) -> str:
    """Twelve hexadecimal digits that name a run: of its relevant configuration and its data's fingerprint."""
    text = json.dumps({"config": relevant(config), "data": fingerprint}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def is_first_process() -> bool:
    """Whether this process writes and speaks for the run, of all that a launcher started."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def write_atomic(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(beside, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """`key: old -> new` for every leaf that differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        inner = [differences(old.get(name), new.get(name), f"{key}.{name}".lstrip(".")) for name in sorted({*old, *new})]
        return [line for lines in inner for line in lines]
    return [] if old == new else [f"{key}: {old} -> {new}"]


class RunFolder:
    """One run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def result(self) -> dict[str, Any]:
        """`result.json`, or an empty dict."""
        file = self.path / RESULT
        return dict(json.loads(file.read_text())) if file.is_file() else {}

    @property
    def state(self) -> str:
        """absent, running, failed or done."""
        return str(self.result.get("state", "absent"))

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration.

        Raises:
            RunFolderError: the folder is no run folder.
        """
        file = self.path / CONFIG
        if not file.is_file():
            raise RunFolderError(f"{self.path} has no {CONFIG}: expected a run folder such as runs/gsq/0123456789ab")
        return dict(yaml.safe_load(file.read_text()))

    def start(self, config: Mapping[str, Any], overrides: list[str]) -> None:
        """Write what describes the run, and mark it as running."""
        write_atomic(self.path / CONFIG, yaml.safe_dump(dict(config), sort_keys=False))
        write_atomic(self.path / "overrides.yaml", yaml.safe_dump(overrides))
        write_atomic(self.path / "environment.json", json.dumps(environment(), indent=2) + "\n")
        for leftover in self.path.rglob(".*.tmp"):
            leftover.unlink()
        self.write_result("running", {}, {})

    def write_result(self, state: str, metrics: Mapping[str, float], cards: Mapping[str, Any], **more: Any) -> None:
        """Write `result.json`; all numbers are finite, JSON has no word for others."""
        result = {"state": state, "metrics": dict(metrics), "cards": dict(cards), **more}
        write_atomic(self.path / RESULT, json.dumps(result, indent=2, allow_nan=False) + "\n")

    def changes(self, config: Mapping[str, Any]) -> list[str]:
        """What differs between this run's configuration and `config`, among what changes numbers, but for the length."""
        lines = differences(relevant(self.config), relevant(config))
        return [line for line in lines if not line.startswith("task.updates:")]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises:
            RunFolderError: a living process holds it; names host, process and time.
        """
        file = self.path / LOCK
        self.path.mkdir(parents=True, exist_ok=True)
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        while True:
            try:
                descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                _refuse_or_remove(file)
                continue
            with os.fdopen(descriptor, "w") as opened:
                json.dump(mine, opened)
            break
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def _refuse_or_remove(file: Path) -> None:
    """Remove a dead owner's lock; refuse a living one's."""
    try:
        owner = json.loads(file.read_text())
        here = owner["host"] == socket.gethostname()
    except (OSError, ValueError, KeyError):
        owner, here = {"host": "unknown", "pid": "unknown", "since": "unknown"}, False
    if here and not Path(f"/proc/{owner['pid']}").exists() and sys.platform.startswith("linux"):
        log.warning("removing the lock of a process that is gone: %s", owner)
        file.unlink(missing_ok=True)
        return
    raise RunFolderError(
        f"{file.parent} is in use by process {owner['pid']} on {owner['host']} since {owner['since']}; "
        f"wait for it, or remove {file} if that process is gone"
    )


def environment() -> dict[str, Any]:
    """What the run ran on."""
    packages = ("torch", "torchvision", "lightning", "hydra-core", "omegaconf", "torchmetrics", "torch-fidelity", "lpips", "timm")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "packages": {name: version(name) for name in packages},
    }
