"""The jobs of a sweep with their run folders: what is to be started for each, and how far it is."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from experiments import build
from experiments.data.source import ImageSource
from experiments.run_folder import RESULT, RunFolder
from experiments.signatures import ConfigError
from experiments.sweeps.jobs import Job, place_of
from experiments.sweeps.sweep_file import SweepFile
from experiments.train import run_name
from experiments.training import check_batch, check_sizes, find_folder

UNFINISHED = {"absent": "not run", "running": "interrupted", "done": "interrupted", "failed": "failed"}
"""States of a run folder that nobody holds and of which something is left to do. One that is done lacks an extra evaluation."""


@dataclass(frozen=True)
class Step:
    """One process of a job.

    Attributes:
        command: starts it.
        result: the file that it leaves when it is done.
    """

    command: list[str]
    result: Path

    @property
    def done(self) -> bool:
        """Whether its result is there."""
        return RunFolder(self.result.parent).state == "done"


@dataclass
class Entry:
    """A job on its way.

    Attributes:
        job: the row and the seed.
        source: its data; None for a job that cannot be run here.
        folder: of its run; None likewise.
        steps: its training, then the extra evaluations.
        log: what its processes say.
        state: done, running, interrupted, failed, not run, or weights absent.
        seconds: that its run took.
        note: why it failed.
    """

    job: Job
    source: ImageSource | None = None
    folder: RunFolder | None = None
    steps: list[Step] = field(default_factory=list)
    log: Path = Path()
    state: str = ""
    seconds: float | None = None
    note: str = ""

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration of its training."""
        assert self.job.composition is not None
        return self.job.composition.config

    def look(self) -> str:
        """Read the state from the folder, and keep it; also the seconds of a finished run."""
        if self.folder is None:
            self.state = self.job.why_not
        elif self.folder.in_use:
            self.state = "running"
        elif all(step.done for step in self.steps):
            self.state = "done"
            self.seconds = self.folder.result["metrics"].get("perf/seconds")
        else:
            self.state = UNFINISHED[self.folder.state]
            self.note = self.note or str(self.folder.result.get("error", "")).partition("\n")[0]
        return self.state


def prepare(sweep: SweepFile, scale: str, jobs: list[Job], gpus: int | None) -> list[Entry]:
    """Let the parts of every job judge their sizes, without memory for weights, and find its folder. Nothing is written.

    Args:
        sweep: the file.
        scale: for the place of the log.
        jobs: all of them, composed.
        gpus: that one job will see; None for those of this process.

    Raises:
        ConfigError: the first job whose parts do not fit together, with file, row and reason.
    """
    sources: dict[str, ImageSource] = {}
    entries: list[Entry] = []
    for job in jobs:
        if job.composition is None:
            entries.append(Entry(job))
            continue
        try:
            entries.append(_entry(sweep, scale, job, sources, gpus, judged=bool(entries) and entries[-1].job.row is job.row))
        except ValueError as error:
            raise ConfigError(f"{place_of(sweep, job.row)}: {error}") from error
    for entry in entries:
        entry.look()
    return entries


def _entry(sweep: SweepFile, scale: str, job: Job, sources: dict[str, ImageSource], gpus: int | None, judged: bool) -> Entry:
    assert job.composition is not None
    config = job.composition.config
    key = yaml.safe_dump(config["data"])
    if key not in sources:
        sources[key] = build.build(config["data"])
    if not judged:  # the other seeds of a row have its sizes
        check_sizes(config, sources[key])
        check_batch(config, gpus)
    folder, _ = find_folder(config, sources[key], run_name(job.composition.choices))
    log = Path(config["runs_folder"]) / "sweeps" / sweep.name / scale / f"{job.name}.log"
    train = Step([sys.executable, "-m", "experiments.train", *job.words], folder.path / RESULT)
    return Entry(job, sources[key], folder, [train, *_evaluations(sweep, job, folder)], log)


def _evaluations(sweep: SweepFile, job: Job, folder: RunFolder) -> list[Step]:
    """The sweep file's extra evaluations of a job's run."""
    assert job.composition is not None
    config, choices = job.composition.config, job.composition.choices
    steps = []
    for name, factor in sweep.evaluate.items():
        output = folder.path / "evaluations" / name
        words = [f"model={folder.path}", f"image_size={factor * config['image_size']}", f"output={output}", f"data={choices['data']}"]
        words += [word for word in job.words if word.startswith("data.")]
        words += ["evaluated=held_out", f"seed={job.seed}", f"workers={config['workers']}"]
        steps.append(Step([sys.executable, "-m", "experiments.evaluate", *words], output / RESULT))
    return steps


def without_twins(entries: list[Entry]) -> list[Entry]:
    """One entry for each run folder: rows that are the same run are run once."""
    return list({entry.folder.path: entry for entry in reversed(entries) if entry.folder is not None}.values())[::-1]


def tell_twins(entries: list[Entry]) -> None:
    """Give rows that are the same run the state of the one that was run."""
    told = {entry.folder.path: entry for entry in without_twins(entries) if entry.folder is not None}
    for entry in entries:
        if entry.folder is not None:
            known = told[entry.folder.path]
            entry.state, entry.seconds, entry.note = known.state, known.seconds, known.note
