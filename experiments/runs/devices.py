"""Devices: which one computes outside of training, and how many share a batch."""

from collections.abc import Mapping
from typing import Any

import torch


def choose_device(setting: str) -> torch.device:
    """Where to compute outside of training: auto (a GPU if there is one), cpu or cuda.

    Raises:
        ValueError: cuda, and there is no GPU.
    """
    there = torch.cuda.is_available()
    if setting == "cuda" and not there:
        raise ValueError("device=cuda: torch finds no GPU on this machine; leave `device` out, or set it to cpu")
    return torch.device("cuda" if setting != "cpu" and there else "cpu")


def count_devices(config: Mapping[str, Any], gpus: int | None = None) -> int:
    """How many devices share a batch, on all nodes.

    Args:
        config: of the trainer.
        gpus: of a node; None for those that this process sees.

    Raises:
        ValueError: as `trainer` does.
    """
    seen = torch.cuda.device_count() if gpus is None else gpus
    nodes: int = config["num_nodes"]
    return nodes * devices_of_node(config["accelerator"], config["devices"], nodes, seen)[1]


def devices_of_node(accelerator: str, devices: int | str, num_nodes: int, seen: int) -> tuple[int, int]:
    """How many of the `seen` GPUs may be used, and the number of devices of a node."""
    gpus = 0 if accelerator == "cpu" else seen
    if accelerator == "gpu" and not gpus:
        raise ValueError("trainer.accelerator=gpu: torch finds no GPU on this machine; choose trainer=auto or trainer=cpu")
    count = max(gpus, 1) if devices in ("auto", -1) else int(devices)
    if count < 1:
        raise ValueError(f"trainer.devices={devices}: expected a number of at least 1, or auto for all; change `trainer.devices`")
    if gpus and count > gpus:
        raise ValueError(f"trainer.devices={devices}: torch finds {gpus} GPUs on this machine; change `trainer.devices`, or trainer=cpu")
    if num_nodes < 1:
        raise ValueError(f"trainer.num_nodes={num_nodes}: expected at least 1; change `trainer.num_nodes`")
    return gpus, count
