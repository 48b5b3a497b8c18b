"""What a sweep would do: each row's state, size, and an estimate of time and memory. Starts nothing and writes nothing."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.runs.devices import count_devices
from experiments.sweeps.cost import Cost, cost_of, rate
from experiments.sweeps.display import COLORS, plain_console
from experiments.sweeps.entries import Entry, without_twins

UNITS = (("s", 1.0), ("min", 60.0), ("h", 3600.0), ("days", 86400.0))


def show_plan(entries: list[Entry], jobs: int, gpus: int, elsewhere: bool = False) -> None:
    """Print the plan.

    Args:
        entries: of the sweep, looked at.
        jobs: side by side.
        gpus: that one job will see.
        elsewhere: the jobs run on other machines, whose speed is not known here.
    """
    console, table = plain_console(), Table()
    for title in ("row", "seed", "state"):
        table.add_column(title)
    for title in ("tokenizer M", "discriminator M", "memory GB", "time"):
        table.add_column(title, justify="right")
    costs: dict[tuple[str, bool], Cost] = {}
    own = without_twins(entries)
    left: dict[Any, float] = {}
    for entry in entries:
        cells, seconds = _cells(entry, costs, jobs, gpus)
        if entry.folder is not None and entry.state != "done":
            left[entry.folder.path] = seconds
        color = COLORS.get(entry.state, "default")
        table.add_row(escape(entry.job.row.name), str(entry.job.seed), f"[{color}]{entry.state}[/]", *cells)
    console.print(table)
    _explain(console, entries, own, sum(left.values()), jobs, gpus, elsewhere)


def _explain(console: Console, entries: list[Entry], own: list[Entry], left: float, jobs: int, gpus: int, elsewhere: bool) -> None:
    lines = ["~ is estimated from counted operations and the speed of a convolution on this machine: expect a factor of 2"]
    if elsewhere or (not gpus and any(entry.config["trainer"]["accelerator"] == "gpu" for entry in own)):
        lines.append("the jobs run on other machines; these times are of this one")
    same = sum(entry.folder is not None for entry in entries) - len(own)
    lines += [f"{same} of them are the same run as another row, and run once"] * bool(same)
    together = f", ~{duration(left / min(jobs, len(own)))} with jobs={jobs}" if jobs > 1 and left else ""
    nothing = "nothing is left to run" if own else "no row can be run here"
    lines.append(f"left to run: ~{duration(left)}{together}" if left else nothing)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _cells(entry: Entry, costs: dict[tuple[str, bool], Cost], jobs: int, gpus: int) -> tuple[list[str], float]:
    """Parameters of tokenizer and discriminator in millions, memory, time; and the seconds."""
    if entry.source is None:
        return ["", "", "", ""], 0.0
    config = entry.config
    devices = count_devices(config["trainer"], gpus)
    judged_only = entry.state != "done" and entry.stages[0].done  # about as long as one validation
    counted = {**config, "updates": 1, "discriminator_start": 0} if judged_only else config
    key = entry.job.row.name, judged_only
    if key not in costs:  # the other seeds of a row take the same
        costs[key] = cost_of(counted, entry.source, devices)
    cost = costs[key]
    if entry.state == "done" and entry.seconds is not None:
        seconds, told = entry.seconds, duration(entry.seconds)
    else:
        seconds = estimate(config, cost, jobs, gpus, devices)
        told = f"~{duration(seconds)}"
    judged = f"{cost.discriminator_parameters / 1e6:.3f}" if cost.discriminator_parameters else "-"
    return [f"{cost.parameters / 1e6:.3f}", judged, f"~{cost.memory / 1e9:.1f}", told], seconds


def estimate(config: Mapping[str, Any], cost: Cost, jobs: int, gpus: int, devices: int) -> float:
    """Seconds of a run on this machine, with a share of its cores as one of `jobs` has it."""
    device = "cuda" if gpus and torch.cuda.is_available() and config["trainer"]["accelerator"] != "cpu" else "cpu"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = int(os.environ.get("OMP_NUM_THREADS", 0)) or max(1, cores // jobs)
    half = config["trainer"]["precision"] == "bf16-mixed"
    part = max(1, config["batch_size"] // config["accumulate"] // devices)
    return cost.seconds(rate(config["width"], config["image_size"], part, device, half, threads), devices, device)


def duration(seconds: float) -> str:
    """In the largest unit of which there are at least two."""
    unit, size = next((unit for unit in reversed(UNITS) if seconds >= 2 * unit[1]), UNITS[0])
    return f"{seconds / size:.0f} {unit}" if seconds / size >= 10 else f"{seconds / size:.1f} {unit}"
