"""Averaged weights: a second copy of the model that follows the trained one."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from experiments.config.errors import ConfigError
from experiments.training.sharding import full_state, load_full, local
from tokenizer.layers.frozen import Frozen

Pair = tuple[Tensor, Tensor]  # of the average and of the module


class ExponentialMovingAverage(nn.Module):
    """A frozen copy whose floating tensors follow another module's: average += (1 - decay) * (value - average).

    The decay ramps up as min(decay, (1 + u) / (10 + u)) after u updates, so that early results are not those of the
    initial weights. Integer buffers are copied. The copy is hidden from parameters() and state_dict(), and so from optimizers.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        """
        Args:
            module: module to follow, which is copied.
            decay: in [0, 1).

        Raises:
            ConfigError: decay out of range.
        """
        super().__init__()
        if not 0 <= decay < 1:
            raise ConfigError("ema_decay", decay, expected="a number in [0, 1)")
        self.decay = decay
        self._copy = Frozen(deepcopy(module))
        self._tensors: tuple[list[Pair], list[Pair]] | None = None  # listed once: a walk over the modules takes longer than the average

    @property
    def module(self) -> nn.Module:
        """The averaged copy, in eval mode."""
        return self._copy.network

    @torch.no_grad()
    def update(self, module: nn.Module, updates: int) -> None:
        """Follow `module`, always the same one, after its update number `updates` (counted from 1)."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        if self._tensors is None:
            self._tensors = [], []
            for pair in self._pairs(module):
                self._tensors[0 if pair[1].is_floating_point() else 1].append(pair)
        floating, others = self._tensors
        for average, value in others:
            average.copy_(value)
        torch._foreach_lerp_([average for average, _ in floating], [value for _, value in floating], 1 - decay)

    @torch.no_grad()
    def copy(self, module: nn.Module) -> None:
        """Start from the weights of `module`, which stays on its device from here."""
        self._tensors = None
        for average, value in self._pairs(module):
            average.copy_(value)

    def averaged_state(self) -> dict[str, Any]:
        """All tensors of the copy for a checkpoint, whole in the first process; every process must call it."""
        return full_state(self.module.state_dict())

    def load_averaged_state(self, state: dict[str, Tensor]) -> None:
        """Load the tensors of a checkpoint, strictly."""
        load_full(self.module, state)

    def _pairs(self, module: nn.Module) -> list[Pair]:
        """Tensors of the copy and of a module that is sharded alike, as far as they are on this device."""
        copy = self.module.state_dict()
        return [(local(copy[name]), local(value)) for name, value in module.state_dict().items()]
