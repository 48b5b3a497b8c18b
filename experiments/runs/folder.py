"""The run folder: a run's identity, its files and its state. Imports no torch.

The identity is a hash of everything that changes numbers, so that the same command finds its folder again and rows of
several tables share a run. Every file is written beside its place and renamed.
"""

import fcntl
import json
import logging
import os
import platform
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import yaml

from experiments.config.errors import RunFolderError
from experiments.runs.losses import effective
from tokenizer.files import short_hash, write_text

log = logging.getLogger(__name__)

RESULT = "result.json"
CONFIG = "config.yaml"
CHECKPOINTS = "checkpoints"
CHECKPOINT_PATTERN = "updates_*.ckpt"
ENVIRONMENT = "environment.json"
LOCK = "lock.json"
EXAMPLE = "runs/gsq/0123456789ab"
PLACES = ("*", "*/*")  # of run folders below the folder of runs: `gsq/<id>`, or an experiment's `gsq/vae_f8_raw/<id>`
PATHS = ("root", "file", "tokenizer")  # keys of data that name a file or folder
Change = tuple[str, Any, Any]  # key, old value, new value


def relevant(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved configuration that changes numbers: no devices, workers, paths, loggers, names, or settings without effect."""
    task, data = effective(config["task"]), _without_paths(config["data"])  # fingerprints identify the content of files
    return {"task": task, "data": data, "precision": config["trainer"]["precision"], "batch_size": config["batch_size"]}


def _without_paths(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _without_paths(value) for key, value in node.items() if key not in PATHS}
    return node


def identity(config: Mapping[str, Any], contents: Mapping[str, str | None]) -> str:
    """Twelve hexadecimal digits that name a run.

    `contents` are digests of the files that the configuration only names: the fingerprint of `data`, the digest of `init_from`.
    """
    return short_hash({"config": relevant(config), "contents": contents})


def digest_of_config(config: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of the settings that change a run's numbers, without the content of files."""
    return short_hash(relevant(config))


def find_run(runs_folder: Path, identity: str) -> "RunFolder | None":
    """The run folder of an identity, under any experiment; None if there is none."""
    paths = sorted(file.parent for pattern in PLACES for file in runs_folder.glob(f"{pattern}/{identity}/{CONFIG}"))
    return RunFolder(paths[0]) if paths else None


def runs_by_config(runs_folder: Path) -> "dict[str, RunFolder]":
    """Run folders by `digest_of_config`; of several, with different data, the one that started last."""
    files = [file for pattern in PLACES for file in runs_folder.glob(f"{pattern}/*/{ENVIRONMENT}")]
    folders = [RunFolder(file.parent) for file in sorted(files, key=lambda file: file.stat().st_mtime)]
    return {str(folder.described.get("config_digest")): folder for folder in folders}


def differences(old: Any, new: Any, key: str = "") -> list[Change]:
    """Dotted key, old value and new value of every leaf that differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        inner = [differences(old.get(name), new.get(name), f"{key}.{name}".lstrip(".")) for name in sorted({*old, *new})]
        return [change for changes in inner for change in changes]
    return [] if old == new else [(key, old, new)]


class RunFolder:
    """One run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def checkpoint_files(self) -> list[Path]:
        """The checkpoints, oldest first."""
        return sorted(self.checkpoints.glob(CHECKPOINT_PATTERN))

    @property
    def result(self) -> dict[str, Any]:
        """`result.json`, or an empty dict."""
        return self._read_json(RESULT)

    @property
    def state(self) -> str:
        """absent, running, failed or done."""
        return str(self.result.get("state", "absent"))

    @property
    def in_use(self) -> bool:
        """Whether a process holds its lock."""
        file = self.path / LOCK
        if not file.is_file():
            return False
        with open(file, "r+") as opened:
            try:
                fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                return isinstance(error, BlockingIOError)
        return False

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration; a RunFolderError if the folder is no run folder."""
        file = self.path / CONFIG
        if not file.is_file():
            raise RunFolderError(self.path, f"it has no {CONFIG}; expected a run folder such as {EXAMPLE}")
        return dict(yaml.safe_load(file.read_text()))

    @property
    def contents(self) -> dict[str, Any]:
        """Digests of the files of the run, see `identity`."""
        return dict(self.described.get("contents", {}))

    @property
    def described(self) -> dict[str, Any]:
        """`environment.json`, or an empty dict."""
        return self._read_json(ENVIRONMENT)

    def _read_json(self, name: str) -> dict[str, Any]:
        file = self.path / name
        return dict(json.loads(file.read_text())) if file.is_file() else {}

    def start(
        self, config: Mapping[str, Any], overrides: list[str], contents: Mapping[str, str | None], about: Mapping[str, Any] | None = None
    ) -> None:
        """Write the files that describe the run, and mark it as running.

        Args:
            contents: see `identity`; those of an earlier start remain.
            about: description of the model: `tokens`, `classes`, `tokenizer`.
        """
        digests = {"config_digest": digest_of_config(config), "contents": {**self.contents, **contents}}
        described = {**environment(), **digests, **(about or {})}
        write_text(self.path / CONFIG, yaml.safe_dump(dict(config), sort_keys=False))
        write_text(self.path / "overrides.yaml", yaml.safe_dump(overrides))
        write_text(self.path / ENVIRONMENT, json.dumps(described, indent=2) + "\n")
        for leftover in self.path.rglob(".*.tmp"):
            leftover.unlink()
        self.write_result("running", {}, {})

    def write_result(self, state: str, metrics: Mapping[str, float], cards: Mapping[str, Any], **more: Any) -> None:
        """Write `result.json`; all numbers are finite, as JSON requires."""
        result = {"state": state, "metrics": dict(metrics), "cards": dict(cards), **more}
        write_text(self.path / RESULT, json.dumps(result, indent=2, allow_nan=False) + "\n")

    def changes(self, config: Mapping[str, Any], contents: Mapping[str, str | None]) -> list[Change]:
        """Differences between this run and `config` with `contents`, among the settings that change numbers; see `identity`."""
        old = {f"content of {name}": self.contents.get(name) for name in contents}
        new = {f"content of {name}": digest for name, digest in contents.items()}
        return differences({**relevant(self.config), **old}, {**relevant(config), **new})

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder for this process. The system releases the lock when the process ends.

        Raises:
            RunFolderError: another process holds it; names host, process and time.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / LOCK
        with _locked(file) as opened:
            os.register_at_fork(after_in_child=opened.close)  # a reading process that outlives this one must not hold it
            opened.truncate(0)
            json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}, opened)
            opened.flush()
            try:
                yield
            finally:
                file.unlink(missing_ok=True)


@contextmanager
def _locked(file: Path) -> Iterator[IO[str]]:
    """The lock file, locked as long as it is open."""
    while True:
        with open(file, "a+") as opened:
            _lock(opened, file)
            # Its last owner may have removed the file after it was opened here: then the lock is on a file without a name.
            if file.exists() and os.path.samestat(os.fstat(opened.fileno()), file.stat()):
                yield opened
                return


def _lock(opened: IO[str], file: Path) -> None:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        opened.seek(0)
        try:
            owner = json.load(opened)
            described = f"process {owner['pid']} on {owner['host']} since {owner['since']}"
        except (ValueError, KeyError, TypeError):
            described = "another process"
        raise RunFolderError(file.parent, f"in use by {described}; wait for it, or end it") from None
    except OSError as error:
        log.warning("%s cannot be locked (%s): start no second process on this run", file, error)


def environment() -> dict[str, Any]:
    """Date, machine and package versions."""
    packages = ("torch", "torchvision", "lightning", "hydra-core", "omegaconf", "torchmetrics", "torch-fidelity", "lpips", "timm")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "packages": {name: version(name) for name in packages},
    }
