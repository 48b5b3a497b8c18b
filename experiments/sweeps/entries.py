"""The jobs of a sweep with their run folders, processes and states. Imports no torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.evaluation.results import computable
from experiments.runs.folder import RunFolder
from experiments.sweeps.jobs import Job

if TYPE_CHECKING:
    from experiments.data.source import ImageSource

# States of a run folder that no process holds and that has a stage left; one that is done lacks an extra evaluation.
UNFINISHED = {"absent": "not run", "running": "interrupted", "done": "interrupted", "failed": "failed"}


@dataclass(frozen=True)
class Stage:
    """One process of a job.

    Attributes:
        command: command line.
        result: file that it writes when it is done.
    """

    command: list[str]
    result: Path

    @property
    def folder(self) -> RunFolder:
        """The folder of its result."""
        return RunFolder(self.result.parent)

    @property
    def done(self) -> bool:
        """Whether its result is there."""
        return self.folder.state == "done"


class EvaluationStage(Stage):
    """The process of an extra evaluation."""

    @property
    def done(self) -> bool:
        """Whether its result is there, with all that can be computed on this machine."""
        return super().done and not computable(self.folder.result)


@dataclass
class Entry:
    """A job with its state.

    Attributes:
        job: row and seed.
        source: its data; None for a job that cannot be run here.
        folder: run folder; None likewise.
        stages: training, then the extra evaluations.
        log: file with the output of its processes.
        state: done, running, interrupted, failed, not run, or weights absent.
        seconds: duration of its run.
        note: reason of a failure.
    """

    job: Job
    source: "ImageSource | None" = None
    folder: RunFolder | None = None
    stages: list[Stage] = field(default_factory=list)
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
        """Read the state, and the seconds of a finished run, from the folder."""
        if self.folder is None:
            self.state = self.job.why_not
        elif self.folder.in_use:
            self.state = "running"
        elif all(stage.done for stage in self.stages):
            self.state = "done"
            self.seconds = self.folder.result["metrics"].get("perf/seconds")
        else:
            result = next(stage for stage in self.stages if not stage.done).folder.result
            self.state = "failed" if result.get("state") == "failed" else UNFINISHED[self.folder.state]
            self.note = self.note or str(result.get("error", "")).partition("\n")[0]
        return self.state


def without_duplicates(entries: list[Entry]) -> list[Entry]:
    """One entry for each run folder: rows that are the same run are run once."""
    return list({entry.folder.path: entry for entry in reversed(entries) if entry.folder is not None}.values())[::-1]


def sync_duplicates(entries: list[Entry]) -> None:
    """Give rows that are the same run the state of the one that was run."""
    by_folder = {entry.folder.path: entry for entry in without_duplicates(entries) if entry.folder is not None}
    for entry in entries:
        if entry.folder is not None:
            known = by_folder[entry.folder.path]
            entry.state, entry.seconds, entry.note = known.state, known.seconds, known.note
