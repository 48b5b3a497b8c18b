"""The Lightning trainer: devices, precision and strategy. Everything that counts steps is the task's own."""

import logging
import warnings
from functools import partial
from typing import Literal

import lightning.pytorch as lightning
import torch
from lightning.pytorch.strategies import Strategy

from experiments.runs.devices import devices_of_node
from experiments.training.callbacks.saving import AtomicCheckpointIO
from experiments.training.strategy import DataParallelStrategy


def trainer(
    accelerator: Literal["auto", "cpu", "gpu"],
    devices: int | Literal["auto"],
    num_nodes: int,
    precision: Literal["32-true", "bf16-mixed"],
    strategy: Literal["ddp", "fsdp"],
) -> partial[lightning.Trainer]:
    """A Lightning trainer without callbacks and loggers: devices, precision, and nothing that counts steps.

    Length, validation, checkpoints and progress follow the task's own clock. In its keywords `devices` is a number. One device has
    nothing to share, with any `strategy`.

    Raises:
        ConfigError: a GPU is required and there is none, or a number of devices or nodes that is not possible.
    """
    _quieten_lightning()
    gpus, count = devices_of_node(accelerator, devices, num_nodes, torch.cuda.device_count())
    processes = num_nodes * count
    several: Strategy | str = DataParallelStrategy(processes, shard=strategy == "fsdp") if processes > 1 else "auto"
    return partial(
        lightning.Trainer,
        accelerator="cuda" if gpus else "cpu",  # never Apple's, which lacks float64, the dtype of sums
        devices=count,
        num_nodes=num_nodes,
        precision=precision,
        strategy=several,
        max_epochs=-1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[AtomicCheckpointIO()],
    )


def _quieten_lightning() -> None:
    """Lightning's advice about what this project does on purpose."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    advice = ("have no `validation_step`", "LeafSpec.*is deprecated", "does not have many workers", "`srun` command is available")
    for message in advice:
        warnings.filterwarnings("ignore", f".*{message}")
