"""The jobs of a sweep with their run folders, processes and states. Imports no torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.evaluation.results import computable
from experiments.runs.folder import RunFolder
from experiments.sweeps.jobs import Job

if TYPE_CHECKING:
    from experiments.data.source import ImageSource

# States of a run folder that no process holds and that has a stage left; one that is done lacks an evaluation or a probe.
UNFINISHED = {"absent": "not run", "running": "interrupted", "done": "interrupted", "failed": "failed"}


@dataclass(frozen=True)
class Stage:
    """One process of a job.

    Attributes:
        command: command line.
        result: file that it writes when it is done.
        title: training, or name of an evaluation or probe.
        operations: estimate of those of a probe; 0 if none is known.
    """

    command: list[str]
    result: Path
    title: str = "training"
    operations: float = 0.0

    @property
    def folder(self) -> RunFolder:
        """The folder of its result."""
        return RunFolder(self.result.parent)

    @property
    def done(self) -> bool:
        """Whether its result is there."""
        return self.folder.state == "done"

    @property
    def seconds(self) -> float | None:
        """Duration, of a training or a probe that recorded it."""
        result = self.folder.result
        seconds: float | None = result.get("seconds", result.get("metrics", {}).get("perf/seconds"))
        return seconds


class MeasuringStage(Stage):
    """The process of an evaluation or a probe."""

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
        stages: training, then evaluations, then probes.
        log: file with the output of its processes.
        state: done, running, interrupted, failed, not run, or weights absent.
        seconds: duration of its stages, as far as it is recorded.
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

    @property
    def unfinished(self) -> list[Stage]:
        """The stages that are not done; the first of them is the next, or runs."""
        return [stage for stage in self.stages if not stage.done]

    @property
    def description(self) -> str:
        """The state, with the stage that it is about where there are several."""
        if len(self.stages) < 2 or self.state not in ("running", "failed", "interrupted"):
            return self.state
        return f"{self.state} ({[*self.unfinished, self.stages[-1]][0].title})"  # the last one may still run after it wrote its result

    def look(self) -> str:
        """Read the state, and the seconds of finished stages, from the folders."""
        if self.folder is None:
            self.state = self.job.why_not
        elif any(stage.folder.in_use for stage in self.stages):
            self.state = "running"
        elif not (unfinished := self.unfinished):
            self.state = "done"
            seconds = [stage.seconds for stage in self.stages if stage.seconds is not None]
            self.seconds = sum(seconds) if seconds else None
        else:
            result = unfinished[0].folder.result
            self.state = "failed" if result.get("state") == "failed" else UNFINISHED[self.folder.state]
            self.note = self.note or str(result.get("error", "")).partition("\n")[0]
        return self.state


def _results(entry: Entry) -> tuple[Path, ...]:
    return tuple(stage.result for stage in entry.stages)


def without_duplicates(entries: list[Entry]) -> list[Entry]:
    """One entry for each list of stages: rows that are the same run with the same evaluations and probes are run once."""
    first: dict[tuple[Path, ...], Entry] = {}
    for entry in entries:
        if entry.folder is not None:
            first.setdefault(_results(entry), entry)
    return list(first.values())


def sync_duplicates(entries: list[Entry]) -> None:
    """Give rows with the same stages the state of the one that was run."""
    known = {_results(entry): entry for entry in without_duplicates(entries)}
    for entry in entries:
        if entry.folder is not None:
            same = known[_results(entry)]
            entry.state, entry.seconds, entry.note = same.state, same.seconds, same.note
