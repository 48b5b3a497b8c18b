"""Blocks of equal structure, one after another: the unit of taps, recomputed activations and compiling."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Trunk(nn.ModuleList):
    """A list of blocks with a forward pass; a slice of a trunk is a trunk of the same blocks.

    Attributes:
        recompute: whether a backward pass computes the blocks again, so that of their activations only the inputs are stored. Changes
            memory and time, not numbers.
    """

    recompute = False

    def forward(self, features: Tensor, *context: Any, taps: Collection[int] = ()) -> tuple[Tensor, dict[int, Tensor]]:
        """Call the blocks in turn.

        Args:
            features: input of the first block.
            *context: further arguments of every block.
            taps: numbers of blocks, from 1.

        Returns:
            the output of the last block, and the outputs of the tapped blocks by number.

        Raises:
            ValueError: there is no such block.
        """
        for tap in taps:
            if not 1 <= tap <= len(self):
                raise ValueError(f"taps={tap}, expected a block, 1 to {len(self)}")
        tapped = {}
        for number, block in enumerate(self, 1):
            if self.recompute and torch.is_grad_enabled():
                features = checkpoint(block, features, *context, use_reentrant=False)
            else:
                features = block(features, *context)
            if number in taps:
                tapped[number] = features
        return features, tapped

    def compile_each(self) -> None:
        """Compile the blocks with torch. Names of parameters do not change; rounding and dropout masks do."""
        for block in self:
            block.compile()

    def reset_parameters(self) -> None:
        """Re-initialize every block."""
        for block in self:
            block.reset_parameters()  # type: ignore[operator]


def trunks_of(module: nn.Module) -> list[Trunk]:
    """The trunks inside a module, without those inside of blocks."""
    if isinstance(module, Trunk):
        return [module]
    return [trunk for child in module.children() for trunk in trunks_of(child)]


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """The blocks of all trunks inside a module."""
    return [block for trunk in trunks_of(module) for block in trunk]


def recompute_activations(module: nn.Module, recompute: bool = True) -> None:
    """Set `recompute` of every trunk inside a module."""
    for trunk in trunks_of(module):
        trunk.recompute = recompute
