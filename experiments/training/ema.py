"""Averaged weights: a second copy of the model that follows the trained one."""

import torch
from torch import Tensor, nn

from experiments.config.errors import ConfigError
from tokenizer.layers.frozen import Frozen


class ExponentialMovingAverage(nn.Module):
    """A frozen copy whose floating tensors follow another module's: average += (1 - decay) * (value - average).

    The decay ramps up as min(decay, (1 + u) / (10 + u)) after u updates, so that early results are not those of the
    initial weights. Integer buffers are copied. The copy is hidden from parameters() and state_dict(), and so from
    optimizers and from data-parallel wrappers.
    """

    def __init__(self, copy: nn.Module, decay: float) -> None:
        """
        Args:
            copy: a module of the same class and weights as the one to follow.
            decay: in [0, 1).

        Raises:
            ConfigError: decay out of range.
        """
        super().__init__()
        if not 0 <= decay < 1:
            raise ConfigError("ema_decay", decay, expected="a number in [0, 1)")
        self.decay = decay
        self._copy = Frozen(copy)

    @property
    def module(self) -> nn.Module:
        """The averaged copy, in eval mode."""
        return self._copy.network

    @torch.no_grad()
    def update(self, module: nn.Module, updates: int) -> None:
        """Follow `module` after its update number `updates` (counted from 1)."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        averages, values = [], []
        copy = self.module.state_dict(keep_vars=False)
        for name, value in module.state_dict(keep_vars=False).items():
            if torch.is_floating_point(value):
                averages.append(copy[name])
                values.append(value)
            else:
                copy[name].copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)

    def averaged_state(self) -> dict[str, Tensor]:
        """All tensors of the copy, for a checkpoint."""
        return self.module.state_dict()

    def load_averaged_state(self, state: dict[str, Tensor]) -> None:
        """Load the tensors of a checkpoint, strictly."""
        self.module.load_state_dict(state)
