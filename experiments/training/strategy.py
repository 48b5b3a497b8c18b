"""The Lightning strategy of several processes: each has a part of every batch, and the blocks of trunks may be shared.

Lightning's own data-parallel wrapper is not used. It reduces gradients in each backward pass, searches for parameters that took no part
in it, such as those of the other optimizer, and does not know shards. The task averages gradients once per update instead.
"""

import signal
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer

from experiments.training.sharding import full_state, load_full, shards_like

LONGEST_WAIT = timedelta(minutes=10)  # for the other processes, at the start and in one operation; those that are lost end it sooner


class DataParallelStrategy(ModelParallelStrategy):
    """Checkpoints are those of one process: whole tensors in one file, written by the first process."""

    def __init__(self, processes: int, shard: bool) -> None:
        """
        Args:
            processes: number of processes on all nodes.
            shard: whether the blocks of trunks are sharded.
        """
        super().__init__(data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False, timeout=LONGEST_WAIT)
        self.shard = shard
        self.launched: list[Any] = []

    def setup_environment(self) -> None:
        """Connect to the other processes. While it waits for them no handler in Python runs, so that a Ctrl-C ends the process itself."""
        earlier = signal.signal(signal.SIGINT, signal.SIG_DFL)
        super().setup_environment()
        signal.signal(signal.SIGINT, earlier)
        launched = getattr(self.launcher, "procs", [])
        self.launched = [*launched]
        launched.clear()  # Lightning's observer would kill this process; `Peers` observes from here

    @property
    def mesh(self) -> DeviceMesh | None:
        """The processes that share blocks; None if every process stores them whole."""
        return self.device_mesh["data_parallel"] if self.shard else None

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Whether the trainer passes states of optimizers to `load_optimizer_state_dict`."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """All tensors of the task, whole in the first process."""
        return full_state(self._task.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """State of an optimizer, whole in the first process."""
        plain = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        return full_state(plain.state_dict())

    def load_checkpoint(self, checkpoint_path: _PATH, weights_only: bool | None = None) -> dict[str, Any]:
        """Content of a checkpoint file."""
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Load all tensors of the task."""
        load_full(self._task, checkpoint["state_dict"], strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load the states of the optimizers."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            moments = {
                number: {name: shards_like(parameters[number], value) if value.ndim else value for name, value in each.items()}
                for number, each in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": moments})

    @property
    def _task(self) -> torch.nn.Module:
        assert self.lightning_module is not None
        return self.lightning_module
