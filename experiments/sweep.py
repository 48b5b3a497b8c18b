"""Run a published table: `python -m experiments.sweep gsq/table01_codebook scale=mini`, every row in processes of its own."""

import logging
from typing import TYPE_CHECKING

from experiments.config.compose import Composition, main
from experiments.config.idle import report_idle

if TYPE_CHECKING:
    from experiments.config.settings import SweepSettings
    from experiments.sweeps.entries import Entry

log = logging.getLogger("experiments.sweep")  # __name__ is __main__ here


def run(composition: Composition) -> int:
    """Check every row, then run those that are not done, or show the plan.

    Returns:
        0 if all rows that can be run here are done; 1 if one is not, or if none can be run; 128 plus the number of a signal that asked
        for an end.
    """
    from experiments.sweeps.jobs import compose_jobs
    from experiments.tables.reading import read_sweep

    settings: SweepSettings = composition.settings
    folders = composition.draft.folders
    sweep = read_sweep(settings.table, folders.main, folders.added)
    jobs = compose_jobs(sweep, settings.scale, range(settings.seeds), composition.others, settings.only or (), folders.main)
    from experiments.runs.terminal import console
    from experiments.sweeps.display import Display, table_of
    from experiments.sweeps.entries import sync_duplicates
    from experiments.sweeps.placement import gpus_of_a_job, make_launcher
    from experiments.sweeps.prepare import prepare
    from experiments.sweeps.runner import Runner

    report_idle(composition.overrides, {"slurm": "launcher=local starts no jobs of SLURM"} if settings.launcher == "local" else {})
    gpus = gpus_of_a_job(settings)
    entries = prepare(sweep, settings.scale, jobs, gpus)
    if settings.plan:
        from experiments.sweeps.plan import show_plan

        show_plan(entries, settings.jobs, gpus)
        return 0
    launcher = make_launcher(settings, entries)
    with Display(entries) as display:
        status = Runner(entries, launcher, display.update).run()
    sync_duplicates(entries)
    console().print(table_of(entries))
    _log_outcome(entries, sweep.name, settings)
    able = [entry for entry in entries if entry.folder is not None]
    return status or int(not able or any(entry.state != "done" for entry in able))


def _log_outcome(entries: "list[Entry]", name: str, settings: "SweepSettings") -> None:
    if all(entry.folder is None for entry in entries):
        log.warning("no row could run here: %s", entries[0].job.absent)
        return
    for entry in entries:
        if entry.state == "failed":
            log.warning("%s failed, %s; see %s", entry.job.name, entry.note, entry.log)
    if any(entry.state in ("interrupted", "not run", "running") for entry in entries):
        log.info("the same command runs what is not done")
    seeds = f" seeds={settings.seeds}" if settings.seeds > 1 else ""
    log.info("show the table with `python -m experiments.report %s scale=%s%s`", name, settings.scale, seeds)


if __name__ == "__main__":
    main("sweep", run, "Run a published table, every row in processes of its own; what is done is not repeated.")
