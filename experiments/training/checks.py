"""Checks of a training's configuration that need no torch, and the name of its folder."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.config.checks import check_folder
from experiments.config.compose import Composition, compose
from experiments.config.errors import ConfigError
from experiments.config.overrides import key_of
from experiments.data.files import check_data
from experiments.runs.folder import EXAMPLE, RunFolder
from experiments.runs.kinds import as_reason
from experiments.runs.model_folder import ModelFolder
from experiments.training.schedules import in_updates


def check(config: dict[str, Any]) -> None:
    """Check what the types and bounds of the settings leave.

    Raises:
        ConfigError: a start of the discriminator that is neither a fraction nor a number of updates, settings that exclude each other, or
            a path that leads to something else than the key takes.
        DataError: data that does not exist.
    """
    if config["resume"] and config["rerun"]:
        raise ConfigError("rerun", True, reason=f"resume={config['resume']} continues a run", advice="leave one of them out")
    for name, weight in config["task"].get("objective", {}).get("weights", {}).items():
        if isinstance(weight, int | float) and not 0 <= weight < math.inf:
            raise ConfigError(f"loss.weights.{name}", weight, expected="a finite number of at least 0")
    if "discriminator_start" in config:
        in_updates(config["discriminator_start"], config["updates"], "discriminator_start")
    check_folder(Path(config["runs_folder"]), "runs_folder")
    if config["init_from"] and not config["resume"]:
        ModelFolder(config["init_from"], "init_from").require("generator" if "generator" in config["task"] else "tokenizer")
    check_data(config["data"])


def with_recorded(composition: Composition) -> Composition:
    """The configuration of a run that is resumed: the overrides that it was started with, and after them those of the command line.

    Raises:
        ConfigError: `resume` names no run folder, or what its overrides were is wrong today.
    """
    if not composition.config["resume"]:
        return composition
    folder = RunFolder(Path(composition.config["resume"]))
    if folder.state == "absent":
        raise ConfigError("resume", str(folder.path), reason=as_reason(folder.path), expected=f"a run folder such as {EXAMPLE}")
    given = {key_of(word) for word in composition.overrides} | {"resume", "rerun"}
    recorded = [word for word in folder.overrides if key_of(word) not in given]
    unsafe = [word for word in recorded if _names_code(word)]
    if unsafe:  # the folder may be somebody else's
        raise ConfigError("resume", str(folder.path), reason=f"it was started with {' '.join(unsafe)}", advice="add this to the command")
    try:
        return compose("train", [*recorded, *composition.overrides], composition.draft.folders.main)
    except ConfigError as error:
        raise error.at(f"with the overrides of {folder.path}") from error


def _names_code(word: str) -> bool:
    """Whether an override may name classes, packages or configuration files: a target, an interpolation that may make one, an option."""
    return word.startswith("--") or key_of(word).startswith("plugins") or any(mark in word for mark in ("_target_", "${"))


def run_name(choices: Mapping[str, Any]) -> str:
    """The folder of a run's folder: its experiment, or its quantizer or generator."""
    return str(choices.get("experiment") or choices.get("quantizer") or choices["generator"])
