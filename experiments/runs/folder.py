"""The run folder: a run's identity, its files and its state. Imports no torch.

The identity is a hash of everything that changes numbers, so that the same command finds its folder again and rows of
several tables share a run. Every file is written beside its place and renamed.
"""

import json
import logging
import os
import platform
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import yaml

from experiments.config.errors import RunFolderError
from experiments.config.parsing import read_file, read_mapping, write_mapping
from experiments.runs.integrity import list_checkpoints
from experiments.runs.locks import is_locked, lock
from experiments.runs.losses import effective
from tokenizer.files import short_hash, write_text

log = logging.getLogger(__name__)

RESULT = "result.json"
CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"
CHECKPOINTS = "checkpoints"
ENVIRONMENT = "environment.json"
IMAGES = "images"
EXAMPLE = "runs/gsq/0123456789ab"
PLACES = ("*", "*/*")  # of run folders below the folder of runs: `gsq/<id>`, or an experiment's `gsq/vae_f8_raw/<id>`
PATHS = ("root", "file", "tokenizer")  # keys of data that name a file or folder
MOST_CHARACTERS = 2000  # of an error in a result
Change = tuple[str, Any, Any]  # key, old value, new value


def relevant(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved configuration that changes numbers: no devices, workers, paths, loggers, names, or settings without effect."""
    task, data = effective(config["task"]), _without_paths(config["data"])  # fingerprints identify the content of files
    compiled = {"compile": True} if config.get("compile") else {}  # changes rounding and dropout masks
    return {"task": task, "data": data, "precision": config["trainer"]["precision"], "batch_size": config["batch_size"], **compiled}


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
        return list_checkpoints(self.checkpoints)

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
        return is_locked(self.path)

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration; a RunFolderError if the folder is no run folder."""
        file = self.path / CONFIG
        if not file.is_file():
            raise RunFolderError(self.path, f"it has no {CONFIG}; expected a run folder such as {EXAMPLE}")
        return read_mapping(file)

    @property
    def overrides(self) -> list[str]:
        """The overrides that the run was last started with; empty if they were not recorded."""
        file = self.path / OVERRIDES
        try:
            words = read_file(file)
        except FileNotFoundError:
            return []
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise RunFolderError(self.path, f"its {OVERRIDES} is no list of overrides")
        return words

    @property
    def contents(self) -> dict[str, Any]:
        """Digests of the files of the run, see `identity`."""
        return dict(self.described.get("contents", {}))

    @property
    def lengths(self) -> dict[str, Any]:
        """Lengths in updates by key, see `experiments.training.lengths`; empty for a run that did not record them."""
        return dict(self.described.get("lengths", {}))

    @property
    def described(self) -> dict[str, Any]:
        """`environment.json`, or an empty dict."""
        return self._read_json(ENVIRONMENT)

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            return read_mapping(self.path / name)
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def start(
        self, config: Mapping[str, Any], overrides: list[str], contents: Mapping[str, str | None], about: Mapping[str, Any] | None = None
    ) -> None:
        """Write the files that describe the run, and mark it as running.

        Args:
            contents: see `identity`; those of an earlier start remain.
            about: description of the model: `tokens`, `classes`, `tokenizer`.
        """
        self._require_folders()
        # Lengths before the configuration: a process that reads both meanwhile must not take new lengths for recorded ones.
        digests = {"config_digest": digest_of_config(config), "contents": {**self.contents, **contents}}
        described = {**environment(), **digests, **(about or {})}
        write_mapping(self.path / ENVIRONMENT, described)
        write_mapping(self.path / CONFIG, config)
        write_text(self.path / OVERRIDES, yaml.safe_dump(overrides, allow_unicode=True))
        for leftover in self.path.rglob(".*.tmp"):
            leftover.unlink()
        self.write_result("running", {}, {})

    def _require_folders(self) -> None:
        """Make the folder of checkpoints, and write to it, before any update: later, a failure would cost what was computed."""
        for folder in (self.checkpoints, self.path / IMAGES):
            if not folder.is_dir() and os.path.lexists(folder):
                raise RunFolderError(self.path, f"its {folder.name} is no folder, or a link to one that does not exist; remove it")
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=self.checkpoints):
            pass

    def write_failure(self, error: Exception) -> None:
        """Mark the run as failed, on a full disk too: what the small file has room for is written in its place."""
        text = " ".join(str(error).split())[:MOST_CHARACTERS]
        try:
            self.write_result("failed", {}, {}, error=text)
        except OSError:
            with suppress(OSError), open(self.path / RESULT, "r+") as file:
                file.write(json.dumps({"state": "failed", "metrics": {}, "cards": {}, "error": text}) + "\n")
                file.truncate()

    def write_result(self, state: str, metrics: Mapping[str, float], cards: Mapping[str, Any], **more: Any) -> None:
        """Write `result.json`; all numbers are finite, as JSON requires."""
        result = {"state": state, "metrics": dict(metrics), "cards": dict(cards), **more}
        write_text(self.path / RESULT, json.dumps(result, indent=2, allow_nan=False) + "\n")

    def changes(self, config: Mapping[str, Any], contents: Mapping[str, str | None]) -> list[Change]:
        """Differences between this run and `config` with `contents`, among the settings that change numbers; see `identity`."""
        old = {f"content of {name}": self.contents.get(name) for name in contents}
        new = {f"content of {name}": digest for name, digest in contents.items()}
        return differences({**relevant(self.config), **old}, {**relevant(config), **new})

    def lock(self) -> AbstractContextManager[None]:
        """Lock the folder for this process, see `experiments.runs.locks`."""
        return lock(self.path)


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
