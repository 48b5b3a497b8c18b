"""Devices: which one computes outside of training, and how many share a batch."""

from collections.abc import Mapping
from typing import Any

import torch

from experiments.config.errors import ConfigError

NO_GPU = "torch finds no GPU on this machine"


def choose_device(setting: str) -> torch.device:
    """The device of everything but training: auto (a GPU if there is one), cpu or cuda, which must exist."""
    available = torch.cuda.is_available()
    if setting == "cuda" and not available:
        raise ConfigError("device", "cuda", reason=NO_GPU, advice="leave `device` out, or set it to cpu")
    return torch.device("cuda" if setting != "cpu" and available else "cpu")


def count_devices(config: Mapping[str, Any], gpus: int | None = None) -> int:
    """Number of devices that share a batch, on all nodes of a trainer's configuration; each has `gpus` GPUs, by default as this one."""
    seen = torch.cuda.device_count() if gpus is None else gpus
    nodes: int = config["num_nodes"]
    return nodes * devices_of_node(config["accelerator"], config["devices"], nodes, seen)[1]


def devices_of_node(accelerator: str, devices: int | str, num_nodes: int, seen: int) -> tuple[int, int]:
    """How many of the `seen` GPUs may be used, and the number of devices of a node.

    Raises:
        ConfigError: a GPU is required and there is none, or a number of devices or nodes that is not possible.
    """
    gpus = 0 if accelerator == "cpu" else seen
    if accelerator == "gpu" and not gpus:
        raise ConfigError("trainer.accelerator", "gpu", reason=NO_GPU, advice="choose trainer=auto or trainer=cpu")
    count = max(gpus, 1) if devices in ("auto", -1) else int(devices)
    if count < 1:
        raise ConfigError("trainer.devices", devices, expected="a number of at least 1, or auto for all")
    if gpus and count > gpus:
        raise ConfigError("trainer.devices", devices, reason=f"torch finds {gpus} GPUs on this machine")
    if num_nodes < 1:
        raise ConfigError("trainer.num_nodes", num_nodes, expected="at least 1")
    return gpus, count
