"""One training run from start to end: find or make its folder, train or go on, judge, write the result."""

import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers.logger import Logger

from experiments.config.command_line import is_first_process
from experiments.config.signatures import PACKAGES
from experiments.data.loading import ImageData
from experiments.data.source import DataSource
from experiments.evaluation.results import plain
from experiments.evaluation.results_table import show
from experiments.runs.build import build
from experiments.runs.checkpoints import STATE, load_checkpoint, newest_checkpoint, updates_of
from experiments.runs.folder import RunFolder, RunFolderError
from experiments.runs.models import initialize
from experiments.training.callbacks.interruption import Interruption
from experiments.training.callbacks.loggers import MetricsTable
from experiments.training.callbacks.progress import LastValues, ProgressBar
from experiments.training.callbacks.saving import Checkpoints
from experiments.training.callbacks.validation import Validation
from experiments.training.clock import ClockedTask
from experiments.training.objective import weighted_losses
from experiments.training.preparation import check_batch, check_sizes, find_folder
from experiments.training.trainer import without_unused_parameters
from tokenizer import pretrained

log = logging.getLogger(__name__)

FACTORIES = ("tokenizer", "discriminator", "objective", "generator")  # arguments that a task builds itself, on the device of its weights


def train(config: dict[str, Any], overrides: list[str], name: str) -> int:
    """Train one model.

    Args:
        config: resolved, of the verb train.
        overrides: the words of the command line.
        name: of the folder that the run folder lies in.

    Returns:
        The exit code.
    """
    source: DataSource = build(config["data"])
    check_sizes(config, source)
    check_batch(config)
    folder, contents = find_folder(config, source, name)
    if folder.state == "done" and not config["rerun"] and not config["resume"]:
        log.info("%s is done; rerun=true repeats it", folder.path)
        show(folder.result)
        return 0
    checkpoint = None if config["rerun"] else newest_checkpoint(folder.checkpoints)
    if checkpoint and updates_of(checkpoint) > config["updates"]:
        raise RunFolderError(f"updates={config['updates']}: {checkpoint} is beyond that already; change `updates`")
    task = build_task(config, source, checkpoint)
    with _holding(folder):
        if is_first_process():
            _prepare(folder, config, checkpoint)
            folder.start(config, overrides, contents, task.describe())
        return _run(config, source, task, folder, checkpoint)


def unbuilt_task(config: Mapping[str, Any]) -> ClockedTask:
    """The LightningModule of a configuration's `task`, its parts not yet built."""
    node = dict(config["task"])
    target = pretrained.locate(node.pop("_target_"), PACKAGES)
    if "objective" in node:
        node["objective"] = weighted_losses(node["objective"])
    arguments = {key: _factory(value) if key in FACTORIES else build(value) for key, value in node.items()}
    task: ClockedTask = target(**arguments)
    return task


def build_task(config: Mapping[str, Any], source: DataSource, checkpoint: Path | None) -> ClockedTask:
    """The task with its parts, their weights drawn from the run's seed alone or taken from `init_from`, unless a checkpoint follows."""
    task = unbuilt_task(config)
    torch.manual_seed(config["seed"])
    task.configure_model()
    task.prepare(config, source)
    if config["init_from"] and checkpoint is None:
        initialize(task.trained, config["init_from"])
        if task.average is not None:
            task.average.load_averaged_state(task.trained.state_dict())
    return task


def _factory(config: Any) -> partial[Any] | None:
    return None if config is None else partial(build, config)


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


def _run(config: dict[str, Any], source: DataSource, task: ClockedTask, folder: RunFolder, checkpoint: Path | None) -> int:
    resumed_at = load_checkpoint(checkpoint, "meta")[STATE]["updates"] if checkpoint else 0
    log.info("run folder %s", folder.path)
    if checkpoint:
        log.info("going on from update %d (%s)", resumed_at, checkpoint)
    task.summarize()
    try:
        batch_size = config["batch_size"] // config["accumulate"]
        data = ImageData(source, batch_size=batch_size, seed=config["seed"], workers=config["workers"])
        return _fit(config, data, task, folder, checkpoint, resumed_at)
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
    task: ClockedTask,
    folder: RunFolder,
    checkpoint: Path | None,
    resumed_at: int,
) -> int:
    last = LastValues()
    checkpoints = Checkpoints(folder.checkpoints, config["checkpoint_every"], config["keep_checkpoints"])
    validation = Validation(lambda: task.evaluate(data), config["validate_every"], folder.path / "images", task.figure)
    interruption = Interruption(checkpoints)
    make = build(config["trainer"])
    trainer = (make if task.has_unused_parameters else without_unused_parameters(make))(
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
        folder.write_result("done", metrics, evaluation.cards, skipped=plain(evaluation.skipped), unreadable=evaluation.unreadable)
        show(folder.result)
        if validation.picture:
            log.info("picture %s", validation.picture)
    return 0


def _chosen_logger(config: dict[str, Any], folder: RunFolder) -> list[Logger]:
    settings = build(config["logger"])
    if settings is None or not is_first_process():
        return []
    logger = settings.build(folder, name="/".join(folder.path.parts[-2:]), config=config)
    return [] if logger is None else [logger]


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
