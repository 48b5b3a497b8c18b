"""One training run from start to end: find or make its folder, train or go on, judge, write the result."""

import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers.logger import Logger

from experiments.data.loading import ImageData
from experiments.data.source import DataSource
from experiments.evaluation.results_table import show
from experiments.runs import build
from experiments.runs.folder import RunFolder, RunFolderError, digest_of_weights, find_run, identity, is_first_process
from experiments.training.base_training import Training
from experiments.training.callbacks.interruption import Interruption
from experiments.training.callbacks.loggers import MetricsTable
from experiments.training.callbacks.progress import LastValues, ProgressBar
from experiments.training.callbacks.saving import Checkpoints, load_checkpoint, newest_checkpoint, updates_of
from experiments.training.callbacks.validation import Validation
from experiments.training.clock import STATE, ClockedTask
from experiments.training.generator_training import GeneratorTraining
from experiments.training.tokenizer_training import TokenizerTraining

log = logging.getLogger(__name__)


def train(config: dict[str, Any], overrides: list[str], name: str) -> int:
    """Train one model.

    Args:
        config: resolved, of the verb train.
        overrides: the words of the command line.
        name: of the folder that the run folder lies in.

    Returns:
        The exit code.
    """
    source: DataSource = build.build(config["data"])
    training = training_of(config, source)
    training.check_sizes()
    check_batch(config)
    folder, contents = find_folder(config, training, name)
    if folder.state == "done" and not config["rerun"] and not config["resume"]:
        log.info("%s is done; rerun=true repeats it", folder.path)
        show(folder.result)
        return 0
    checkpoint = None if config["rerun"] else newest_checkpoint(folder.checkpoints)
    if checkpoint and updates_of(checkpoint) > config["updates"]:
        raise RunFolderError(f"updates={config['updates']}: {checkpoint} is beyond that already; change `updates`")
    task = training.build_task(checkpoint)
    with _holding(folder):
        if is_first_process():
            _prepare(folder, config, checkpoint)
            folder.start(config, overrides, contents, training.described(task))
        return _run(config, source, training, task, folder, checkpoint)


def training_of(config: Mapping[str, Any], source: DataSource) -> Training:
    """The training of what the configuration's task trains."""
    kind = GeneratorTraining if "generator" in config["task"] else TokenizerTraining
    return kind(config, source)  # type: ignore[arg-type]


def check_batch(config: Mapping[str, Any], gpus: int | None = None) -> None:
    """Every device takes an equal part of the batch, `accumulate` times.

    Args:
        config: resolved.
        gpus: that the run will see; None for those of this process.
    """
    devices, accumulate = build.count_devices(config["trainer"], gpus), config["accumulate"]
    if config["batch_size"] % (devices * accumulate):
        expected = f"a multiple of {devices * accumulate} ({devices} devices, accumulate={accumulate})"
        raise ValueError(f"batch_size={config['batch_size']}: expected {expected}; change `batch_size`")


def find_folder(config: Mapping[str, Any], training: Training, name: str) -> tuple[RunFolder, dict[str, str | None]]:
    """The folder of this configuration's run, or the one that `resume` names, and the contents that its identity knows.

    Raises:
        RunFolderError: `resume` names a run of another configuration, or the run was continued with another length.
    """
    contents = training.contents()
    if config["resume"]:
        folder = RunFolder(Path(config["resume"]))
        if folder.state == "absent":
            raise RunFolderError(f"resume={folder.path}: expected a run folder such as runs/gsq/0123456789ab; change `resume`")
        if not folder.checkpoint_files:  # what it began with matters only as long as it has nothing of its own
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


def _holding(folder: RunFolder) -> AbstractContextManager[None]:
    """The lock of the folder for the first process, nothing for the others."""
    return folder.lock() if is_first_process() else nullcontext()


def _prepare(folder: RunFolder, config: Mapping[str, Any], checkpoint: Path | None) -> None:
    """Remove what a repeated run writes again, or checkpoints that could not be read: they would count as the newest."""
    if config["rerun"]:
        for name in ("checkpoints", "images", "export", "evaluations"):
            shutil.rmtree(folder.path / name, ignore_errors=True)
        for name in ("metrics.csv", "result.json"):
            (folder.path / name).unlink(missing_ok=True)
    for path in folder.checkpoint_files:
        if checkpoint is None or updates_of(path) > updates_of(checkpoint):
            log.warning("removing %s, which cannot be read", path)
            path.unlink()


def _run(
    config: dict[str, Any], source: DataSource, training: Training, task: ClockedTask, folder: RunFolder, checkpoint: Path | None
) -> int:
    resumed_at = load_checkpoint(checkpoint, "meta")[STATE]["updates"] if checkpoint else 0
    log.info("run folder %s", folder.path)
    if checkpoint:
        log.info("going on from update %d (%s)", resumed_at, checkpoint)
    training.summarize(task)
    try:
        return _fit(config, build.data(config, source), training, task, folder, checkpoint, resumed_at)
    except Exception as error:
        if is_first_process():
            folder.write_result("failed", {}, {}, error=str(error))
        if _is_out_of_memory(error):
            raise ValueError(
                f"out of memory at batch_size={config['batch_size']}: lower `batch_size`, or raise `accumulate` to compute it in parts"
                f" (now {config['accumulate']}). The system said: {str(error).splitlines()[0]}"
            ) from error
        raise


def _fit(
    config: dict[str, Any],
    data: ImageData,
    training: Training,
    task: ClockedTask,
    folder: RunFolder,
    checkpoint: Path | None,
    resumed_at: int,
) -> int:
    last = LastValues()
    checkpoints = Checkpoints(folder.checkpoints, config["checkpoint_every"], config["keep_checkpoints"])
    validation = Validation(training.judge(task, data), config["validate_every"], folder.path / "images", training.draw)
    interruption = Interruption(checkpoints)
    make = build.build(config["trainer"])
    trainer = (make if training.idle_parameters else build.without_idle_parameters(make))(
        callbacks=[validation, checkpoints, interruption, ProgressBar(last)],
        logger=[last, MetricsTable(folder.path / "metrics.csv", resumed_at), *_chosen_logger(config, folder)],
        log_every_n_steps=config["log_every"],
        default_root_dir=folder.path,
    )
    started = time.monotonic()
    trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    if interruption.exit_code:
        return interruption.exit_code
    evaluation = validation.last
    if trainer.is_global_zero and evaluation is not None:
        metrics = evaluation.values | {"perf/seconds": task.seconds + time.monotonic() - started}
        metrics["model/parameters"] = sum(parameter.numel() for parameter in task.trained.parameters())
        folder.write_result("done", metrics, evaluation.cards, skipped=evaluation.skipped, unreadable=evaluation.unreadable)
        show(folder.result)
        if validation.picture:
            log.info("picture %s", validation.picture)
    return 0


def _chosen_logger(config: dict[str, Any], folder: RunFolder) -> list[Logger]:
    settings = build.build(config["logger"])
    if settings is None or not is_first_process():
        return []
    logger = settings.build(folder, name="/".join(folder.path.parts[-2:]), config=config)
    return [] if logger is None else [logger]


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
