"""Run a published table: `python -m experiments.sweep gsq/table01_codebook scale=mini`, every row in processes of its own."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config.errors import ConfigError
from experiments.config.signatures import CONF
from experiments.sweeps.settings import main
from experiments.tables.reading import read_sweep

if TYPE_CHECKING:
    from experiments.sweeps.entries import Entry
    from experiments.sweeps.launchers import Launcher

log = logging.getLogger("experiments.sweep")  # __name__ is __main__ here

CHOICES = {"launcher": ("local", "slurm", "submitit_local")}


def run(settings: dict[str, Any], words: list[str], config_dir: Path = CONF) -> int:
    """Judge every row, then run those that are not done, or show the plan.

    Args:
        settings: of conf/sweep.yaml.
        words: for every row's training.
        config_dir: where the configuration files lie.

    Returns:
        0 if all rows that can be run here are done; 1 if one is not, or if none can be run; 128 plus the number of a signal that asked
        for an end.

    Raises:
        ConfigError: a row, a word or a setting that is wrong.
    """
    sweep = read_sweep(settings["table"], config_dir)
    only = _names(settings["only"], [row.name for row in sweep.runs])
    from experiments.sweeps.jobs import compose_jobs

    jobs = compose_jobs(sweep, settings["scale"], range(settings["seeds"]), words, only, config_dir)
    from experiments.sweeps.display import Display, plain_console, table_of
    from experiments.sweeps.entries import sync_duplicates
    from experiments.sweeps.prepare import prepare
    from experiments.sweeps.runner import Runner

    gpus = _gpus()
    share = _gpus_of_a_job(settings, gpus)
    entries = prepare(sweep, settings["scale"], jobs, share)
    if settings["plan"]:
        from experiments.sweeps.plan import show_plan

        show_plan(entries, settings["jobs"], share)
        return 0
    launcher = _launcher(settings, entries, gpus)
    with Display(entries) as display:
        status = Runner(entries, launcher, display.update).run()
    sync_duplicates(entries)
    plain_console().print(table_of(entries))
    _say_how_it_went(entries, sweep.name, settings)
    able = [entry for entry in entries if entry.folder is not None]
    return status or int(not able or any(entry.state != "done" for entry in able))


def _names(text: str | None, known: list[str]) -> list[str]:
    """The names of rows in a text such as uniform,sphere; none for all rows."""
    names = [name for name in (text or "").split(",") if name]
    if text is not None and not names:
        raise ConfigError(f"only={text}: expected names of rows with commas between them, of {', '.join(known)}; leave `only` out for all")
    return names


def _gpus() -> list[str]:
    """The names of the GPUs that this process sees."""
    import torch

    count = torch.cuda.device_count()
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible[:count] if len(visible) >= count else [str(number) for number in range(count)]


def _gpus_of_a_job(settings: dict[str, Any], gpus: list[str]) -> int:
    """How many GPUs each row will see."""
    from experiments.sweeps.launchers import gpus_of_a_slot

    asked = int(settings["slurm"]["gpus_per_node"])
    return {
        "local": gpus_of_a_slot(len(gpus), settings["jobs"]),
        "slurm": asked,
        "submitit_local": min(asked, len(gpus)),
    }[settings["launcher"]]


def _launcher(settings: dict[str, Any], entries: "list[Entry]", gpus: list[str]) -> "Launcher":
    """The launcher that was chosen.

    Raises:
        ConfigError: it is absent, or cannot do what the rows ask for.
    """
    from experiments.sweeps.launchers import LocalLauncher, QueueLauncher

    if settings["launcher"] == "local":
        return LocalLauncher(settings["jobs"], gpus)
    wide = [entry for entry in entries if entry.folder and entry.config["trainer"]["num_nodes"] > 1]
    if wide:
        raise ConfigError(f"trainer.num_nodes: launcher={settings['launcher']} gives a row one node; leave `trainer.num_nodes` out")
    folder = next((entry.log.parent / "submitit" for entry in entries if entry.folder), Path("runs/sweeps/submitit"))
    return QueueLauncher(settings["launcher"].removeprefix("submitit_"), folder, settings["jobs"], settings["slurm"])


def _say_how_it_went(entries: "list[Entry]", name: str, settings: dict[str, Any]) -> None:
    if all(entry.folder is None for entry in entries):
        log.warning("no row could run here: %s", entries[0].job.absent)
        return
    for entry in entries:
        if entry.state == "failed":
            log.warning("%s failed, %s; see %s", entry.job.name, entry.note, entry.log)
    if any(entry.state in ("interrupted", "not run", "running") for entry in entries):
        log.info("the same command again goes on with what is not done")
    seeds = f" seeds={settings['seeds']}" if settings["seeds"] > 1 else ""
    log.info("read the table by `python -m experiments.report %s scale=%s%s`", name, settings["scale"], seeds)


if __name__ == "__main__":
    main("sweep", run, "Run a published table, every row in processes of its own; what is done is not repeated.", CHOICES)
