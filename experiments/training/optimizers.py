"""Settings of optimizers, with the clipping of their gradients."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from experiments.config.errors import ConfigError


class AdamW:
    """Adam with decoupled weight decay.

    The fused kernel is used because it can skip a step on the device: the host need not read whether the gradient was finite.
    """

    def __init__(self, learning_rate: float, betas: tuple[float, float], weight_decay: float, epsilon: float, clip: float | None) -> None:
        """
        Args:
            learning_rate: largest learning rate, before the schedule.
            betas: decay rates of the first and second moment.
            weight_decay: weight decay of every parameter, or of those that the class names.
            epsilon: added to the root of the second moment.
            clip: largest norm of the gradient, None for no limit.

        Raises:
            ConfigError: a value out of its range.
        """
        if learning_rate < 0:
            raise ConfigError("learning_rate", learning_rate, expected="a number of at least 0")
        if clip is not None and clip <= 0:
            raise ConfigError("optimizer.clip", clip, expected="a number above 0, or null for no limit")
        self.learning_rate = learning_rate
        self.betas = (betas[0], betas[1])
        self.weight_decay = weight_decay
        self.epsilon = epsilon
        self.clip = clip

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimizer over `parameters`."""
        return torch.optim.AdamW(
            self.groups(parameters), lr=self.learning_rate, betas=self.betas, weight_decay=self.weight_decay, eps=self.epsilon, fused=True
        )

    def groups(self, parameters: Iterable[nn.Parameter]) -> Any:
        """The parameters, in groups where their settings differ."""
        return parameters


class MatrixDecayAdamW(AdamW):
    """AdamW with weight decay only on parameters of two dimensions or more: not on scales of norms, nor on biases."""

    def groups(self, parameters: Iterable[nn.Parameter]) -> Any:
        """Parameters with and without weight decay; no group is empty."""
        everything = list(parameters)
        decayed = {"params": [p for p in everything if p.ndim >= 2], "weight_decay": self.weight_decay}
        others = {"params": [p for p in everything if p.ndim < 2], "weight_decay": 0.0}
        return [group for group in (decayed, others) if group["params"]]
