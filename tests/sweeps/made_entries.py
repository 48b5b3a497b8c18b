"""Entries whose stages run small programs instead of trainings."""

import sys
import textwrap
from pathlib import Path

from experiments.runs.folder import RunFolder
from experiments.sweeps.entries import Entry, Stage
from experiments.sweeps.jobs import Job
from experiments.sweeps.launchers import LocalLauncher
from experiments.sweeps.runner import Runner
from experiments.tables.sweep_file import Row

DONE = "write('done')"


def entry(folder: Path, name: str, *programs: str, state: str = "not run", seed: int = 0) -> Entry:
    """One whose stages run Python programs in which `write(state)` leaves a result; the second stage writes in evaluations/."""
    stages = []
    for place, program in enumerate(programs or (DONE,)):
        output = folder / name if place == 0 else folder / name / "evaluations" / "twice"
        opening = f"""
            import os, signal, sys, time
            from pathlib import Path
            from experiments.runs.folder import RunFolder
            folder = RunFolder(Path({str(output)!r}))
            def write(state): folder.write_result(state, {{"perf/seconds": 2.5}}, {{}})
        """
        stages.append(Stage([sys.executable, "-c", f"{textwrap.dedent(opening)}\n{program}"], output / "result.json"))
    job = Job(Row(name=name), seed, [], None)
    return Entry(job, None, RunFolder(folder / name), stages, folder / "logs" / f"{job.name}.log", state)


def run(entries: list[Entry], slots: int = 1) -> list[list[str]]:
    """The states at every look; the entries have the last ones."""
    seen: list[list[str]] = []
    Runner(entries, LocalLauncher(slots, []), lambda: seen.append([each.state for each in entries])).run()
    return seen
