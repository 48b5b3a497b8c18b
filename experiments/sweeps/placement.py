"""Where the jobs of a sweep run: the launcher, and the GPUs of each."""

import os
from pathlib import Path

from experiments.config.errors import ConfigError
from experiments.config.settings import SweepSettings
from experiments.sweeps.entries import Entry
from experiments.sweeps.launchers import Launcher, LocalLauncher, gpus_of_a_slot
from experiments.sweeps.launchers_slurm import QueueLauncher


def visible_gpus() -> list[str]:
    """The names of the GPUs that this process sees."""
    import torch

    count = torch.cuda.device_count()
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible[:count] if len(visible) >= count else [str(number) for number in range(count)]


def gpus_of_a_job(settings: SweepSettings) -> int:
    """How many GPUs each row will see."""
    if settings.launcher == "slurm":
        return settings.slurm.gpus_per_node
    here = len(visible_gpus())
    return gpus_of_a_slot(here, settings.jobs) if settings.launcher == "local" else min(settings.slurm.gpus_per_node, here)


def make_launcher(settings: SweepSettings, entries: list[Entry]) -> Launcher:
    """The launcher that `launcher` names.

    Raises:
        ConfigError: it is not installed, or a row asks for more than it can give.
    """
    if settings.launcher == "local":
        return LocalLauncher(settings.jobs, visible_gpus())
    nodes = max((entry.config["trainer"]["num_nodes"] for entry in entries if entry.folder), default=1)
    if nodes > 1:
        reason = f"launcher={settings.launcher} gives a row one node"
        raise ConfigError("trainer.num_nodes", nodes, reason=reason, advice="leave `trainer.num_nodes` out")
    folder = next((entry.log.parent / "submitit" for entry in entries if entry.folder), Path("runs/sweeps/submitit"))
    cluster = settings.launcher.removeprefix("submitit_")
    return QueueLauncher(cluster, folder, settings.jobs, settings.slurm.model_dump())
