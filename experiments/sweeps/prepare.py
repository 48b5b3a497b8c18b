"""From jobs to entries: sizes of the parts of every job are checked, and its run folder is found. Nothing is written."""

import sys
from pathlib import Path

import torch
import yaml

from experiments.config.errors import ConfigError, TesseraError
from experiments.data.source import ImageSource
from experiments.evaluation.results import computable
from experiments.probing.generators import plan_generator
from experiments.runs.build import build
from experiments.runs.folder import RESULT, RunFolder
from experiments.sweeps.entries import Entry, MeasuringStage, Stage
from experiments.sweeps.jobs import Job
from experiments.sweeps.sizes import operations_of_probe
from experiments.tables.measurements import evaluation
from experiments.tables.sweep_file import COMPLETED, SweepFile
from experiments.training.checks import run_name
from experiments.training.preparation import check_batch, check_sizes, find_folder


def prepare(sweep: SweepFile, scale: str, jobs: list[Job], gpus: int | None) -> list[Entry]:
    """Check the sizes of every job on the meta device, and find its folder. Nothing is written.

    Args:
        sweep: table.
        scale: names the folder of the logs.
        jobs: all of them, composed.
        gpus: number of GPUs of one job; None for those of this process.

    Raises:
        ConfigError: the first job whose parts do not fit together, with file and row.
    """
    sources: dict[str, ImageSource] = {}
    folders: dict[str, RunFolder] = {}
    operations: dict[str, float] = {}
    entries: list[Entry] = []
    for job in jobs:
        if job.composition is None:
            entries.append(Entry(job))
            continue
        config = job.composition.config
        try:
            key = yaml.safe_dump(config["data"])
            source = sources[key] = sources.get(key) or build(config["data"])
            if not entries or entries[-1].job.row is not job.row:  # the other seeds of a row have its sizes
                check_sizes(config, source)
                check_batch(config, gpus)
                operations = _check_probes(job, source, gpus) if any(each.composition for each in job.measurements) else {}
            entries.append(_entry(sweep, scale, job, source, folders, operations))
        except ConfigError as error:
            raise job.composition.draft.explain(error).at(sweep.place_of(job.row)) from error
        except TesseraError as error:
            raise ConfigError(place=sweep.place_of(job.row), reason=str(error)) from error
    for entry in entries:
        entry.look()
    return entries


def _entry(
    sweep: SweepFile, scale: str, job: Job, source: ImageSource, folders: dict[str, RunFolder], operations: dict[str, float]
) -> Entry:
    assert job.composition is not None
    config = job.composition.config
    folder, _ = find_folder(config, source, run_name(job.composition.choices))
    folder = folders.setdefault(folder.path.name, folder)  # the same run, if rows have it from two experiments
    log = Path(config["runs_folder"]) / "sweeps" / sweep.name / scale / f"{job.name}.log"
    stages = [Stage([sys.executable, "-m", "experiments.train", *job.overrides], folder.path / RESULT)]
    # Metrics that the training skipped and that can be computed now.
    completion = [evaluation(COMPLETED, {}, job.composition)] if computable(folder.result) else []
    for each in (*completion, *job.measurements):
        output = folder.path / "evaluations" / each.folder
        of_run = [f"tokenizer={folder.path}"] if each.verb == "probe" else [f"model={folder.path}", f"output={output}"]
        command = [sys.executable, "-m", f"experiments.{each.verb}", *of_run, *each.overrides]
        stages.append(MeasuringStage(command, output / RESULT, each.title, operations.get(each.name, 0.0) if each.composition else 0.0))
    return Entry(job, source, folder, stages, log)


def _check_probes(job: Job, source: ImageSource, gpus: int | None) -> dict[str, float]:
    """Check on the meta device that the generators of a job's probes go with its tokens; their operations by the names of the probes.

    Raises:
        ConfigError: the tokenizer's tokens cannot be cached, or a setting of a generator does not go with them.
    """
    assert job.composition is not None
    from experiments.tokens.writing import tokens_of  # imports Lightning, which tables without probes need not

    operations = {}
    for each in job.measurements:
        if each.composition is None:
            continue
        try:
            config = each.composition.config
            images = build(config["data"], "data") if config.get("data") else source
            with torch.device("meta"):
                tokenizer = build(job.composition.config["task"]["tokenizer"], "task.tokenizer")
            tokens = tokens_of(tokenizer, images)
            generator, training = plan_generator(each.composition, tokens, images.image_size, gpus)
        except ConfigError as error:
            raise error.at(each.title) from error
        operations[each.name] = operations_of_probe(sum(map(torch.numel, generator.parameters())), tokens, config, training)
    return operations
