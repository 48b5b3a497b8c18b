"""One training run from start to end: locate its folder, train or resume, evaluate, write the result."""

import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers.logger import Logger

from experiments.config.arguments import check_tree
from experiments.config.command_line import is_first_process
from experiments.config.errors import ConfigError, config_errors
from experiments.config.packages import buildable_packages
from experiments.data.loading import ImageData
from experiments.data.source import DataSource
from experiments.evaluation.results import plain
from experiments.evaluation.results_table import show
from experiments.runs.build import build
from experiments.runs.checkpoints import newest_checkpoint, updates_of
from experiments.runs.folder import RunFolder
from experiments.runs.losses import weighted_losses
from experiments.runs.models import initial_state
from experiments.training.callbacks.interruption import Interruption
from experiments.training.callbacks.loggers import MetricsTable
from experiments.training.callbacks.progress import LastValues, ProgressBar
from experiments.training.callbacks.saving import Checkpoints
from experiments.training.callbacks.validation import Validation
from experiments.training.clock import OTHER_PARTS, ClockedTask, seed_torch
from experiments.training.preparation import check_batch, check_sizes, find_folder
from tokenizer import pretrained

log = logging.getLogger(__name__)

MODELS = ("tokenizer", "generator")  # arguments of a task that it allocates itself


def train(config: dict[str, Any], overrides: list[str], name: str) -> int:
    """Train one model.

    Args:
        config: resolved configuration of the verb train.
        overrides: overrides of the command line.
        name: folder of the run folder.

    Returns:
        The exit code.
    """
    check_tree(config)
    source: DataSource = build(config["data"], "data")
    check_sizes(config, source)
    check_batch(config)
    folder, contents = find_folder(config, source, name)
    if _is_done(folder, config):
        return _report(folder)
    task = build_task(config, source, _checkpoint(folder, config))  # may fail: nothing is written yet
    with _locked(folder):
        if _is_done(folder, config):  # another process may have finished it before this one held the lock
            return _report(folder)
        checkpoint = _checkpoint(folder, config)
        if is_first_process():
            _remove_stale_files(folder, config, checkpoint)
            folder.start(config, overrides, contents, task.describe())
        log.info("run folder %s", folder.path)
        task.summarize()
        try:
            return _fit(config, source, task, folder, checkpoint)
        except Exception as error:
            if is_first_process():
                folder.write_result("failed", {}, {}, error=str(error))
            if _is_out_of_memory(error):
                raise _out_of_memory(config, error) from error
            raise


def build_task(config: Mapping[str, Any], source: DataSource, checkpoint: Path | None) -> ClockedTask:
    """The task, checked with its data; its model has no memory yet. It starts from `init_from` unless a checkpoint follows."""
    task = make_task(config)
    with config_errors("task"):
        task.prepare(config, source)
    if config["init_from"] and checkpoint is None:
        task.initial_state = initial_state(task.trained, config["init_from"])
    return task


def make_task(config: Mapping[str, Any]) -> ClockedTask:
    """The LightningModule of a configuration's `task`, with its model on the meta device."""
    node = dict(config["task"])
    target = pretrained.locate(node.pop("_target_"), buildable_packages())
    if "objective" in node:
        node["objective"] = weighted_losses(node["objective"])
    seed_torch(config["seed"], OTHER_PARTS)  # the model draws its weights later, see `ClockedTask.allocate`
    arguments = {}
    for key, value in node.items():
        with torch.device("meta") if key in MODELS else nullcontext():
            arguments[key] = build(value, f"task.{key}")
    task: ClockedTask = target(**arguments)
    return task


def _is_done(folder: RunFolder, config: Mapping[str, Any]) -> bool:
    return folder.state == "done" and not config["rerun"] and not config["resume"]


def _report(folder: RunFolder) -> int:
    log.info("%s is done; rerun=true repeats it", folder.path)
    show(folder.result)
    return 0


def _checkpoint(folder: RunFolder, config: Mapping[str, Any]) -> Path | None:
    """The checkpoint that training resumes from.

    Raises:
        ConfigError: it has more updates than the run shall have.
    """
    checkpoint = None if config["rerun"] else newest_checkpoint(folder.checkpoints)
    if checkpoint and updates_of(checkpoint) > config["updates"]:
        raise ConfigError("updates", config["updates"], reason=f"{checkpoint} has more updates already")
    return checkpoint


def _locked(folder: RunFolder) -> AbstractContextManager[None]:
    """The lock of the folder in the first process, nothing in the others."""
    return folder.lock() if is_first_process() else nullcontext()


def _remove_stale_files(folder: RunFolder, config: Mapping[str, Any], checkpoint: Path | None) -> None:
    """Remove the files that a repeated run writes again, and unreadable checkpoints, which would count as the newest."""
    if config["rerun"]:
        for name in ("checkpoints", "images", "export", "evaluations"):
            shutil.rmtree(folder.path / name, ignore_errors=True)
        for name in ("metrics.csv", "result.json"):
            (folder.path / name).unlink(missing_ok=True)
    for path in folder.checkpoint_files:
        if checkpoint is None or updates_of(path) > updates_of(checkpoint):
            log.warning("removing %s, which cannot be read", path)
            path.unlink()


def _fit(config: dict[str, Any], source: DataSource, task: ClockedTask, folder: RunFolder, checkpoint: Path | None) -> int:
    """Train, evaluate and write the result; returns the exit code."""
    resumed_at = updates_of(checkpoint) if checkpoint else 0
    if checkpoint:
        log.info("resuming from update %d (%s)", resumed_at, checkpoint)
    data = ImageData(source, config["batch_size"] // config["accumulate"], config["seed"], config["workers"])
    last_values = LastValues()
    checkpoints = Checkpoints(folder.checkpoints, config["checkpoint_every"], config["keep_checkpoints"])
    validation = Validation(lambda: task.evaluate(data), config["validate_every"], folder.path / "images", task.figure)
    interruption = Interruption(checkpoints)
    settings = build(config["trainer"], "trainer")
    trainer = settings(
        callbacks=[validation, checkpoints, interruption, ProgressBar(last_values)],
        logger=[last_values, MetricsTable(folder.path / "metrics.csv", resumed_at), *_chosen_logger(config, folder)],
        log_every_n_steps=config["log_every"],
        default_root_dir=folder.path,
    )
    started = time.monotonic()
    trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    if interruption.exit_code:
        return interruption.exit_code
    if trainer.is_global_zero and validation.last is not None:
        _write_result(folder, task, validation, task.seconds + time.monotonic() - started)
    return 0


def _write_result(folder: RunFolder, task: ClockedTask, validation: Validation, seconds: float) -> None:
    """Write and print the last evaluation."""
    evaluation = validation.last
    assert evaluation is not None
    parameters = sum(parameter.numel() for parameter in task.trained.parameters())
    metrics = {**evaluation.values, "perf/seconds": seconds, "model/parameters": parameters}
    folder.write_result("done", metrics, evaluation.cards, skipped=plain(evaluation.skipped), unreadable=evaluation.unreadable)
    show(folder.result)
    if validation.figure:
        log.info("figure %s", validation.figure)


def _chosen_logger(config: dict[str, Any], folder: RunFolder) -> list[Logger]:
    settings = build(config["logger"], "logger")
    if settings is None or not is_first_process():
        return []
    logger = settings.build(folder, name="/".join(folder.path.parts[-2:]), config=config)
    return [] if logger is None else [logger]


def _out_of_memory(config: Mapping[str, Any], error: Exception) -> ConfigError:
    advice = f"lower `batch_size`, or raise `accumulate` (now {config['accumulate']}) to compute it in parts"
    return ConfigError("batch_size", config["batch_size"], reason=f"out of memory ({str(error).splitlines()[0]})", advice=advice)


def _is_out_of_memory(error: Exception) -> bool:
    """torch has no class for memory of the CPU, only this text."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
