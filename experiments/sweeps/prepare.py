"""From jobs to entries: sizes of the parts of every job are checked, and its run folder is found. Nothing is written."""

import sys
from pathlib import Path

import yaml

from experiments.config.errors import ConfigError, TesseraError
from experiments.config.overrides import for_children
from experiments.data.source import ImageSource
from experiments.evaluation.results import computable
from experiments.runs.build import build
from experiments.runs.folder import RESULT, RunFolder
from experiments.sweeps.entries import Entry, EvaluationStage, Stage
from experiments.sweeps.jobs import Job
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
            entries.append(_entry(sweep, scale, job, source, folders))
        except ConfigError as error:
            raise job.composition.draft.explain(error).at(sweep.place_of(job.row)) from error
        except TesseraError as error:
            raise ConfigError(place=sweep.place_of(job.row), reason=str(error)) from error
    for entry in entries:
        entry.look()
    return entries


def _entry(sweep: SweepFile, scale: str, job: Job, source: ImageSource, folders: dict[str, RunFolder]) -> Entry:
    assert job.composition is not None
    config = job.composition.config
    folder, _ = find_folder(config, source, run_name(job.composition.choices))
    folder = folders.setdefault(folder.path.name, folder)  # the same run, if rows have it from two experiments
    log = Path(config["runs_folder"]) / "sweeps" / sweep.name / scale / f"{job.name}.log"
    train = Stage([sys.executable, "-m", "experiments.train", *job.overrides], folder.path / RESULT)
    return Entry(job, source, folder, [train, *_evaluations(sweep, job, folder)], log)


def _evaluations(sweep: SweepFile, job: Job, folder: RunFolder) -> list[Stage]:
    """Extra evaluations of a job's run, and one of its own data if its training skipped metrics that can be computed now."""
    assert job.composition is not None
    config, choices = job.composition.config, job.composition.choices
    factors = {**sweep.evaluate, **({COMPLETED: 1} if computable(folder.result) else {})}
    stages: list[Stage] = []
    for name, factor in factors.items():
        output = folder.path / "evaluations" / name
        settings = [f"model={folder.path}", f"image_size={factor * config['image_size']}", f"output={output}", f"data={choices['data']}"]
        settings += [*for_children(job.overrides), *(override for override in job.overrides if override.startswith("data."))]
        settings += ["evaluated=held_out", f"seed={job.seed}", f"workers={config['workers']}"]
        settings += ["device=cpu"] if config["trainer"]["accelerator"] == "cpu" else []
        stages.append(EvaluationStage([sys.executable, "-m", "experiments.evaluate", *settings], output / RESULT))
    return stages
