"""Sums over all processes with gradient, for statistics of the joined batch."""

from typing import Any

import torch.distributed
from torch import Tensor


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return torch.distributed.get_world_size() if is_distributed() else 1


def is_distributed() -> bool:
    """Whether a process group is initialized."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Sum over all processes; its gradient is the sum of all processes' gradients.

    Data-parallel training averages gradients over processes, so a loss that every process computes from summed statistics has the
    gradient of the joined batch.
    """
    if not is_distributed():
        return tensor
    summed: Tensor = _SumOverRanks.apply(tensor)
    return summed


class _SumOverRanks(torch.autograd.Function):
    """All-reduce whose backward pass is an all-reduce."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        summed = tensor.clone()
        torch.distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone()
        torch.distributed.all_reduce(summed)
        return summed
