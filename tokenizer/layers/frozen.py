"""A network of somebody else's weights that is used and never trained."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn


class Frozen(nn.Module):
    """Holds a network out of reach: not in parameters(), buffers(), modules() or state_dict().

    So optimizers, averages of weights, data-parallel wrappers and checkpoints cannot meet it. It stays in eval mode, its weights need
    no gradient, and gradients pass through it to its inputs. It follows this module to another device or float type.
    """

    def __init__(self, network: nn.Module) -> None:
        """Take over `network`, with its weights already loaded."""
        super().__init__()
        self._hidden = (network.eval().requires_grad_(False),)  # a tuple, because a module would be registered

    @property
    def network(self) -> nn.Module:
        """The network itself."""
        return self._hidden[0]

    def forward(self, *inputs: Any) -> Any:
        """What the network makes of `inputs`; of tensors on the meta device, the shapes alone."""
        if any(isinstance(value, Tensor) and value.is_meta for value in inputs):  # the weights themselves never go there: see `_apply`
            named = chain(self.network.named_parameters(), self.network.named_buffers())
            shapes = {name: tensor.to("meta") for name, tensor in named}
            return torch.func.functional_call(self.network, shapes, inputs)
        return self.network(*inputs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Frozen":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # Only where to and in which type is taken from `fn`: `to_empty` would replace the loaded weights by memory without content.
        sample = next((tensor for tensor in self.network.parameters() if tensor.is_floating_point()), None)
        if sample is not None:
            moved = fn(torch.empty(0, dtype=sample.dtype, device=sample.device))
            if not moved.is_meta:
                self.network.to(moved.device, moved.dtype)
        return self
