"""Optimizers as the configuration describes them: what they step with and how far a gradient may reach."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


class AdamW:
    """Adam with decoupled weight decay.

    The fused kernel is used because it can skip a step on the device: no host has to read whether the gradient was finite.
    """

    def __init__(self, learning_rate: float, betas: tuple[float, float], weight_decay: float, epsilon: float, clip: float | None) -> None:
        """Keep the settings.

        Args:
            learning_rate: the largest one, before the schedule.
            betas: decay of the first and second moment.
            weight_decay: on every parameter, or on what the class says.
            epsilon: added to the root of the second moment.
            clip: largest norm of the gradient, None for no limit.

        Raises:
            ValueError: a value out of its range.
        """
        if learning_rate < 0:
            raise ValueError(f"learning_rate={learning_rate}: expected a number >= 0")
        if clip is not None and clip <= 0:
            raise ValueError(f"clip={clip}: expected a number > 0, or null for no limit; change optimizer.clip")
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
    """The same with weight decay on parameters of two dimensions or more alone: not on the scales of norms, nor on biases."""

    def groups(self, parameters: Iterable[nn.Parameter]) -> Any:
        """Those that decay, and those that do not; no group is empty."""
        everything = list(parameters)
        decayed = {"params": [p for p in everything if p.ndim >= 2], "weight_decay": self.weight_decay}
        others = {"params": [p for p in everything if p.ndim < 2], "weight_decay": 0.0}
        return [group for group in (decayed, others) if group["params"]]
