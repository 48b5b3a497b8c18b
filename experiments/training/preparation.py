"""Before training: check sizes on the meta device, and locate the run folder. Imports no Lightning."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments.config.arguments import check_tree
from experiments.config.errors import UNSET, ConfigError, RunFolderError, config_errors
from experiments.data.source import DataSource, ImageSource
from experiments.runs.build import build
from experiments.runs.devices import count_devices
from experiments.runs.folder import EXAMPLE, RunFolder, find_run, identity
from experiments.runs.kinds import as_reason
from experiments.runs.losses import weighted_losses
from experiments.runs.model_folder import ModelFolder
from experiments.training.lengths import START, lengths_as_set
from tokenizer.fitting import few_parts

COPIES = 4  # of a parameter: weight, gradient, two moments; of an image: itself, its reconstruction, their gradients


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
    tokenizer, discriminator = (_built(config["task"][part], f"task.{part}") for part in ("tokenizer", "discriminator"))
    parts = {f"task.tokenizer.{name}": part for name, part in tokenizer.named_children()}
    check_memory(config, parts if discriminator is None else {**parts, "task.discriminator": discriminator})
    check_batch_memory(config, "image_size", 3 * source.image_size**2, "images, reconstructions and their gradients")
    with config_errors("task.tokenizer"):
        rows, columns = tokenizer.grid(source.image_size)
    groups = tokenizer.quantizer.groups
    check_batch_memory(config, "task.tokenizer.quantizer", groups * rows * columns, f"the {groups:,} indices of every token")
    if discriminator is not None:
        with config_errors("task.discriminator"):
            discriminator(torch.empty(2, 3, source.image_size, source.image_size))


def _check_generator(config: Mapping[str, Any], source: Any) -> None:
    generator = _built(config["task"]["generator"], "task.generator")
    check_memory(config, {"task.generator": generator})
    check_batch_memory(config, "task.generator", generator.tokens.num_tokens * generator.tokens.groups, "the indices of all tokens")
    with torch.device("cpu"):  # an online source loads its tokenizer
        tokens = source.tokens
    for name, size in vars(generator.tokens).items():
        expected = getattr(tokens, name)
        if size != expected:
            advice = f"change `data`, or leave `tokens.{name}` out"
            raise ConfigError(f"tokens.{name}", size, expected=f"{expected}, that of the data", advice=advice)


def _built(node: Any, place: str) -> Any:
    """A part on the meta device, where a size that cannot be is an error of torch."""
    try:
        with few_parts(), config_errors(place):
            return build(node, place)
    except (RuntimeError, OverflowError) as error:
        raise ConfigError(place, reason=" ".join(str(error).split()), expected="sizes that a tensor can have", advice="") from error


def memory_of(trainer: Mapping[str, Any]) -> int:
    """Bytes of memory of one device."""
    if torch.cuda.is_available() and trainer["accelerator"] != "cpu":
        return int(torch.cuda.get_device_properties(0).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(config: Mapping[str, Any], parts: Mapping[str, nn.Module]) -> None:
    """Refuse parts, on the meta device, that cannot be trained in the memory of one device: a lower bound, without activations.

    Raises:
        ConfigError: names the key of the largest part, with the bytes it takes and the bytes there are.
    """
    trainer, there = config["trainer"], memory_of(config["trainer"])
    shares = count_devices(trainer) if trainer["strategy"] == "fsdp" else 1
    sizes = {key: COPIES * sum(4 * parameter.numel() for parameter in part.parameters()) // shares for key, part in parts.items()}
    if sum(sizes.values()) > there:
        key = max(sizes, key=lambda part: sizes[part])
        reason = f"weights, gradients and moments take {sum(sizes.values()):,} bytes in training, {sizes[key]:,} of them here"
        raise ConfigError(key, reason=reason, expected=f"at most the {there:,} bytes of this device", advice="choose smaller sizes")


def check_batch_memory(config: Mapping[str, Any], key: str, values: int, what: str) -> None:
    """Refuse a batch whose numbers take more than the memory of one device.

    Args:
        config: resolved configuration.
        key: key of the part that makes an example so large.
        values: numbers of one example, each with three others of the same size, such as its gradient.
        what: description of the numbers.

    Raises:
        ConfigError: names `key` if one example is too large, `batch_size` if all together are.
    """
    there, one = memory_of(config["trainer"]), COPIES * 4 * values
    whole = one * config["batch_size"] // (config["accumulate"] * count_devices(config["trainer"]))
    for name, needed in ((key, one), ("batch_size", whole)):
        if needed > there:
            value = config.get(name, UNSET)
            reason, expected = f"{what} take {needed:,} bytes", f"at most the {there:,} bytes of this device"
            raise ConfigError(name, value, reason=reason, expected=expected, advice=None if name in config else "choose smaller sizes")


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
        RunFolderError: see `check_changes`.
    """
    contents: dict[str, str | None] = {**source.contents()}
    if config["resume"]:
        folder = RunFolder(Path(config["resume"]))
        if folder.state == "absent":
            raise ConfigError("resume", str(folder.path), reason=as_reason(folder.path), expected=f"a run folder such as {EXAMPLE}")
    else:
        contents["init_from"] = _initial_weights(config)
        runs, run = Path(config["runs_folder"]), identity(config, contents)
        folder = find_run(runs, run) or RunFolder(runs / name / run)
    check_changes(folder, config, contents)
    return folder, contents


def check_changes(folder: RunFolder, config: Mapping[str, Any], contents: Mapping[str, str | None]) -> None:
    """Check that a run folder is of this configuration.

    Raises:
        RunFolderError: `resume` names a run of another configuration, or the run was continued with another length.
    """
    if config["resume"]:
        free = ("task.updates", *(key for key in lengths_as_set(config) if key != START))
        changes = [change for change in folder.changes(config, contents) if change[0] not in free]
        advice = "only `updates`, lengths of schedules and the logger may change"
    else:
        changes = [] if folder.state == "absent" or config["rerun"] else folder.changes(config, contents)
        advice = f"it was lengthened; continue it by resume={folder.path} with its present settings, or start again by rerun=true"
    if changes:
        raise RunFolderError(folder.path, f"{advice}. It differs from this configuration in", changes)


def _initial_weights(config: Mapping[str, Any]) -> str | None:
    """Digest of the weights that a run is initialized from, if any."""
    return ModelFolder(config["init_from"], "init_from").weights_digest() if config["init_from"] else None
