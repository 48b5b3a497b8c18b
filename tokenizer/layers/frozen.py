"""Wrapper of a pretrained network that is not trained."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn


class Frozen(nn.Module):
    """Hides a network from parameters(), buffers(), modules() and state_dict().

    Optimizers, weight averages, data-parallel wrappers and checkpoints therefore do not include it. It stays in eval mode, its weights
    require no gradient, and gradients pass through it to its inputs. It moves with this module to other devices and float types.

    Args:
        network: network with loaded weights.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._hidden = (network.eval().requires_grad_(False),)  # a tuple, because a module would be registered

    @property
    def network(self) -> nn.Module:
        """The wrapped network."""
        return self._hidden[0]

    def forward(self, *inputs: Any) -> Any:
        """Output of the network; for meta tensors, a meta tensor of the right shape."""
        if any(isinstance(value, Tensor) and value.is_meta for value in inputs):  # but the weights stay on a real device, see `_apply`
            tensors = chain(self.network.named_parameters(), self.network.named_buffers())
            shapes = {name: tensor.to("meta") for name, tensor in tensors}
            return torch.func.functional_call(self.network, shapes, inputs)
        return self.network(*inputs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Frozen":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # Take only device and dtype from `fn`: `to_empty` would replace the loaded weights by uninitialized memory.
        sample = next((tensor for tensor in self.network.parameters() if tensor.is_floating_point()), None)
        if sample is not None:
            moved = fn(torch.empty(0, dtype=sample.dtype, device=sample.device))
            if not moved.is_meta:
                self.network.to(moved.device, moved.dtype)
        return self
