"""One training run from start to end: locate its folder, train or resume, evaluate, write the result."""

import logging
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers.logger import Logger

from experiments.config.arguments import check_tree
from experiments.config.command_line import is_first_process
from experiments.config.errors import ConfigError, RunFolderError, config_errors
from experiments.config.idle import report_idle
from experiments.config.packages import buildable_packages
from experiments.data.loading import ImageData
from experiments.data.source import DataSource
from experiments.evaluation.results import plain
from experiments.evaluation.results_table import show
from experiments.runs.build import build
from experiments.runs.checkpoints import load_checkpoint, sound_checkpoints, updates_of
from experiments.runs.folder import CHECKPOINTS, IMAGES, RunFolder
from experiments.runs.losses import weighted_losses
from experiments.runs.models import initial_state
from experiments.training.callbacks.interruption import Interruption, Left
from experiments.training.callbacks.loggers import MetricsTable
from experiments.training.callbacks.progress import LastValues, ProgressBar
from experiments.training.callbacks.saving import Checkpoints
from experiments.training.callbacks.validation import Validation
from experiments.training.clock import OTHER_PARTS, ClockedTask, seed_torch
from experiments.training.lengths import Lengths, continued_lengths, lengths_in_updates, recorded_lengths, with_lengths
from experiments.training.preparation import check_batch, check_changes, check_sizes, find_folder
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
    lengths = _lengths(folder, config)
    try:
        task = build_task(with_lengths(config, lengths), source)  # may fail: nothing is written yet
    except Exception as error:
        if _is_out_of_memory(error):
            raise _out_of_memory(config, error) from error
        raise
    report_idle(overrides, task.idle)
    with _locked(folder):
        check_changes(folder, config, contents)  # another process may have worked on it before this one held the lock
        if lengths != _lengths(folder, config):
            raise RunFolderError(folder.path, "another process has just changed its lengths; repeat the command")
        if _is_done(folder, config):
            return _report(folder)
        checkpoint = _checkpoint(folder, config)
        if checkpoint:
            _report_change(folder, config, lengths, task, checkpoint)
        elif config["init_from"]:
            task.initial_state = initial_state(task.trained, config["init_from"])
        if is_first_process():
            if config["rerun"]:
                _remove_files(folder)
            folder.start(config, overrides, contents, {**task.describe(), "lengths": lengths})
        log.info("run folder %s", folder.path)
        task.summarize()
        return _fit_or_fail(config, source, task, folder, checkpoint)


def build_task(config: Mapping[str, Any], source: DataSource) -> ClockedTask:
    """The task, checked with its data; its model has no memory yet."""
    task = make_task(config)
    with config_errors("task"):
        task.prepare(config, source)
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
    """The checkpoint that training resumes from; damaged ones are set aside.

    Raises:
        ConfigError: it has more updates than the run shall have, or `resume` names a run without one.
    """
    if config["rerun"]:
        return None
    is_empty = not folder.checkpoint_files
    checkpoint = next(sound_checkpoints(folder.checkpoints, set_aside=is_first_process()), None)
    if config["resume"] and checkpoint is None:
        reason = "it has no undamaged checkpoint to resume from"
        raise ConfigError("resume", config["resume"], reason=reason, advice="repeat its own command, without `resume`, to start it again")
    if checkpoint is None and not is_empty:
        log.warning("%s: all checkpoints are damaged, training starts again at update 0", folder.path)
    if checkpoint and updates_of(checkpoint) > config["updates"]:
        raise ConfigError("updates", config["updates"], reason=f"{checkpoint} has more updates already")
    return checkpoint


def _lengths(folder: RunFolder, config: Mapping[str, Any]) -> Lengths:
    """The lengths of a run in updates; one that is continued retains those that it has."""
    if folder.state == "absent" or config["rerun"]:
        return lengths_in_updates(config)
    return continued_lengths(config, folder.config, folder.lengths)


def _report_change(folder: RunFolder, config: Mapping[str, Any], lengths: Lengths, task: ClockedTask, checkpoint: Path) -> None:
    """Log what other lengths mean for a run that continues from a checkpoint; nothing if they are as before."""
    earlier = folder.config
    if earlier["updates"] != config["updates"] or lengths != recorded_lengths(earlier, folder.lengths):
        rate = load_checkpoint(checkpoint, "meta")["optimizer_states"][0]["param_groups"][0]["lr"]
        log.info(task.describe_change(earlier["updates"], updates_of(checkpoint), rate))


def _locked(folder: RunFolder) -> AbstractContextManager[None]:
    """The lock of the folder in the first process, nothing in the others."""
    return folder.lock() if is_first_process() else nullcontext()


def _remove_files(folder: RunFolder) -> None:
    """Remove the files that a repeated run writes again."""
    for name in (CHECKPOINTS, IMAGES, "export", "evaluations"):
        if (folder.path / name).is_dir():
            shutil.rmtree(folder.path / name)
    for name in ("metrics.csv", "result.json"):
        (folder.path / name).unlink(missing_ok=True)


def _fit_or_fail(config: dict[str, Any], source: DataSource, task: ClockedTask, folder: RunFolder, checkpoint: Path | None) -> int:
    """Fit; an error is recorded in the run folder."""
    try:
        return _fit(config, source, task, folder, checkpoint)
    except Exception as error:
        if is_first_process():
            folder.write_failure(error)
        if _is_out_of_memory(error):
            raise _out_of_memory(config, error) from error
        raise


def _fit(config: dict[str, Any], source: DataSource, task: ClockedTask, folder: RunFolder, checkpoint: Path | None) -> int:
    """Train, evaluate and write the result; returns the exit code."""
    resumed_at = updates_of(checkpoint) if checkpoint else 0
    if checkpoint:
        log.info("resuming from update %d (%s)", resumed_at, checkpoint)
    data = ImageData(source, config["batch_size"] // config["accumulate"], config["seed"], config["workers"])
    last_values = LastValues()
    checkpoints = Checkpoints(folder.checkpoints, config["checkpoint_every"], config["keep_checkpoints"], config["validate_every"])
    interruption = Interruption(checkpoints, lambda reason: folder.write_result("failed", {}, {}, error=reason))
    figures = folder.path / IMAGES
    validation = Validation(lambda: task.evaluate(data), config["validate_every"], figures, interruption, task.figure)
    settings = build(config["trainer"], "trainer")
    validates = validation.is_due(resumed_at, config["updates"])
    trainer = settings(
        callbacks=[checkpoints, interruption, validation, ProgressBar(last_values)],
        logger=[last_values, MetricsTable(folder.path / "metrics.csv", resumed_at, validates), *_chosen_logger(config, folder)],
        log_every_n_steps=config["log_every"],
        default_root_dir=folder.path,
    )
    started = time.monotonic()
    try:
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except Left:  # it stopped while it waited for data
        pass
    except SystemExit:  # of Lightning, after a second SIGINT
        if interruption.received is None:
            raise
        log.warning("stopped at once; the same command resumes from the last checkpoint")
        return 128 + signal.SIGINT
    finally:
        interruption.restore_handlers()
    if interruption.exit_code:
        return interruption.exit_code
    if trainer.is_global_zero and validation.last is not None:
        _write_result(folder, task, validation, task.seconds + time.monotonic() - started, source.unreadable())
    return 0


def _write_result(folder: RunFolder, task: ClockedTask, validation: Validation, seconds: float, not_trained_on: list[str]) -> None:
    """Write and print the last evaluation."""
    evaluation = validation.last
    assert evaluation is not None
    parameters = sum(parameter.numel() for parameter in task.trained.parameters())
    metrics = {**evaluation.values, "perf/seconds": seconds, "model/parameters": parameters}
    unreadable = {"unreadable": evaluation.unreadable, "unreadable_in_training": not_trained_on}
    folder.write_result("done", metrics, evaluation.cards, skipped=plain(evaluation.skipped), **unreadable)
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
    advice = (
        f"lower `batch_size`, or raise `accumulate` (now {config['accumulate']}) to compute it in parts, "
        "which changes losses that are no means over images, such as entropy"
    )
    return ConfigError("batch_size", config["batch_size"], reason=f"out of memory ({str(error).splitlines()[0]})", advice=advice)


def _is_out_of_memory(error: Exception) -> bool:
    """torch has no class for memory of the CPU, only this text."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
