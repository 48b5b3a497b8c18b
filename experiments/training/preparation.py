"""Before training: check sizes on the meta device, and locate the run folder. Imports no Lightning."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.config.arguments import check_tree
from experiments.config.errors import ConfigError, RunFolderError, config_errors
from experiments.data.source import DataSource, ImageSource
from experiments.runs.build import build
from experiments.runs.devices import count_devices
from experiments.runs.folder import EXAMPLE, RunFolder, find_run, identity
from experiments.runs.losses import weighted_losses
from experiments.runs.model_folder import ModelFolder


def check_sizes(config: Mapping[str, Any], source: DataSource) -> None:
    """Check that the parts fit together and to the data, before any of them has weights: the meta device has no memory.

    Raises:
        ConfigError: they do not.
    """
    for name, part in config["task"].items():
        check_tree(weighted_losses(part) if name == "objective" else part, f"task.{name}")
    with torch.device("meta"):
        if "generator" in config["task"]:
            _check_generator(config, source)
        else:
            _check_tokenizer(config, source)


def _check_tokenizer(config: Mapping[str, Any], source: DataSource) -> None:
    if not isinstance(source, ImageSource):
        advice = "choose other `data`, or task=generator"
        raise ConfigError("data.file", config["data"].get("file"), reason="a tokenizer is trained on images", advice=advice)
    tokenizer, discriminator = (build(config["task"][part], f"task.{part}") for part in ("tokenizer", "discriminator"))
    with config_errors("task.tokenizer"):
        tokenizer.grid(source.image_size)
    if discriminator is not None:
        with config_errors("task.discriminator"):
            discriminator(torch.empty(2, 3, source.image_size, source.image_size))


def _check_generator(config: Mapping[str, Any], source: Any) -> None:
    generator = build(config["task"]["generator"], "task.generator")
    with torch.device("cpu"):  # an online source loads its tokenizer
        tokens = source.tokens
    for name, size in vars(generator.tokens).items():
        expected = getattr(tokens, name)
        if size != expected:
            advice = f"change `data`, or leave `tokens.{name}` out"
            raise ConfigError(f"tokens.{name}", size, expected=f"{expected}, that of the data", advice=advice)


def check_batch(config: Mapping[str, Any], gpus: int | None = None) -> None:
    """Check that the devices can share a batch equally, in `accumulate` parts.

    Args:
        config: resolved configuration.
        gpus: number of GPUs that the run will see; None for those of this process.

    Raises:
        ConfigError: they cannot.
    """
    devices, accumulate = count_devices(config["trainer"], gpus), config["accumulate"]
    if config["batch_size"] % (devices * accumulate):
        expected = f"a multiple of {devices * accumulate} ({devices} devices, accumulate={accumulate})"
        raise ConfigError("batch_size", config["batch_size"], expected=expected)


def find_folder(config: Mapping[str, Any], source: DataSource, name: str) -> tuple[RunFolder, dict[str, str | None]]:
    """The folder of this configuration's run, or the one that `resume` names, and the contents that its identity includes.

    Raises:
        ConfigError: `resume` or `init_from` names no run.
        RunFolderError: `resume` names a run of another configuration, or the run was continued with another length.
    """
    contents: dict[str, str | None] = {**source.contents()}
    if config["resume"]:
        folder = RunFolder(Path(config["resume"]))
        if folder.state == "absent":
            raise ConfigError("resume", str(folder.path), expected=f"a run folder such as {EXAMPLE}")
        if not folder.checkpoint_files:  # the initial weights matter only until the run has a checkpoint
            contents["init_from"] = _initial_weights(config)
        changes = [change for change in folder.changes(config, contents) if change[0] != "task.updates"]
        advice = "only `updates` and the logger may change"
    else:
        contents["init_from"] = _initial_weights(config)
        runs, run = Path(config["runs_folder"]), identity(config, contents)
        folder = find_run(runs, run) or RunFolder(runs / name / run)
        changes = [] if folder.state == "absent" or config["rerun"] else folder.changes(config, contents)
        advice = f"it was lengthened; continue it by resume={folder.path} with its present settings, or start again by rerun=true"
    if changes:
        raise RunFolderError(folder.path, f"{advice}. It differs from this configuration in", changes)
    return folder, contents


def _initial_weights(config: Mapping[str, Any]) -> str | None:
    """Digest of the weights that a run is initialized from, if any."""
    return ModelFolder(config["init_from"], "init_from").weights_digest() if config["init_from"] else None
