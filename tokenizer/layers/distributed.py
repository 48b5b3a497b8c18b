"""Sums over all processes, with gradient: statistics of a batch are those of the joined batch."""

import torch.distributed
import torch.distributed.nn.functional
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together, 1 without a process group."""
    return torch.distributed.get_world_size() if is_distributed() else 1


def is_distributed() -> bool:
    """Whether a process group is up."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum over all processes; its gradient is the sum of all processes' gradients.

    Under data-parallel training gradients are averaged over processes, so a loss of summed statistics that every process
    computes alike gets the gradient of the joined batch.
    """
    if not is_distributed():
        return tensor
    summed: Tensor = torch.distributed.nn.functional.all_reduce(tensor)  # type: ignore[no-untyped-call]
    return summed
