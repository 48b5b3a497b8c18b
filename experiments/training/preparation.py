"""Before a run folder is made: sizes are checked on the meta device, and the folder is found. Imports no Lightning."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.config.arguments import check_tree
from experiments.data.source import DataSource, ImageSource
from experiments.runs.build import build
from experiments.runs.devices import count_devices
from experiments.runs.folder import RunFolder, RunFolderError, digest_of_weights, find_run, identity


def check_sizes(config: Mapping[str, Any], source: DataSource) -> None:
    """Check that the parts fit together and to the data, before any of them has weights: the meta device has no memory.

    Raises:
        ValueError: as the parts raise it, or the data is not what the task learns from.
    """
    check_tree(config)
    with torch.device("meta"):
        if "generator" in config["task"]:
            _check_generator(config, source)
        else:
            _check_tokenizer(config, source)


def _check_tokenizer(config: Mapping[str, Any], source: DataSource) -> None:
    if not isinstance(source, ImageSource):
        file = config["data"].get("file")
        raise ValueError(f"data.file={file}: a tokenizer learns from images; choose other `data`, or task=generator")
    tokenizer, discriminator = build(config["task"]["tokenizer"]), build(config["task"]["discriminator"])
    tokenizer.grid(source.image_size)
    if discriminator is not None:
        discriminator(torch.empty(2, 3, source.image_size, source.image_size))


def _check_generator(config: Mapping[str, Any], source: Any) -> None:
    generator = build(config["task"]["generator"])
    with torch.device("cpu"):  # an online source loads its tokenizer
        tokens = source.tokens
    for name, size in vars(generator.tokens).items():
        expected = getattr(tokens, name)
        if size != expected:
            raise ValueError(f"tokens.{name}={size}: this data has {expected}; change `data`, or leave `tokens.{name}` out")


def check_batch(config: Mapping[str, Any], gpus: int | None = None) -> None:
    """Every device takes an equal part of the batch, `accumulate` times.

    Args:
        config: resolved configuration.
        gpus: number of GPUs that the run will see; None for those of this process.

    Raises:
        ValueError: batch_size is no such multiple.
    """
    devices, accumulate = count_devices(config["trainer"], gpus), config["accumulate"]
    if config["batch_size"] % (devices * accumulate):
        expected = f"a multiple of {devices * accumulate} ({devices} devices, accumulate={accumulate})"
        raise ValueError(f"batch_size={config['batch_size']}: expected {expected}; change `batch_size`")


def find_folder(config: Mapping[str, Any], source: DataSource, name: str) -> tuple[RunFolder, dict[str, str | None]]:
    """The folder of this configuration's run, or the one that `resume` names, and the contents that its identity includes.

    Raises:
        RunFolderError: `resume` names a run of another configuration, or the run was continued with another length.
    """
    contents: dict[str, str | None] = {**source.contents()}
    if config["resume"]:
        folder = RunFolder(Path(config["resume"]))
        if folder.state == "absent":
            raise RunFolderError(f"resume={folder.path}: expected a run folder such as runs/gsq/0123456789ab; change `resume`")
        if not folder.checkpoint_files:  # the initial weights matter only until the run has a checkpoint
            contents["init_from"] = digest_of_weights(config["init_from"])
        changes = [line for line in folder.changes(config, contents) if not line.startswith("task.updates:")]
        advice = f"resume={folder.path}: only `updates` and the logger may change"
    else:
        contents["init_from"] = digest_of_weights(config["init_from"])
        runs, name_of_run = Path(config["runs_folder"]), identity(config, contents)
        folder = find_run(runs, name_of_run) or RunFolder(runs / name / name_of_run)
        changes = [] if folder.state == "absent" or config["rerun"] else folder.changes(config, contents)
        advice = f"{folder.path} was continued: go on with resume={folder.path} and what it has now, or begin again with rerun=true"
    if changes:
        raise RunFolderError(f"{advice}; its configuration differs from this one in\n  " + "\n  ".join(changes))
    return folder, contents
