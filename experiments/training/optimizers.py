"""Settings of optimizers, with their learning-rate schedules and the clipping of gradients."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from experiments.config.errors import ConfigError
from experiments.training.schedules import Schedule
from tokenizer.layers.trunk import blocks_of


class AdamW:
    """Adam with decoupled weight decay.

    The fused kernel is used because it can skip a step on the device: the host need not read whether the gradient was finite.
    """

    def __init__(
        self,
        learning_rate: float,
        betas: tuple[float, float],
        weight_decay: float,
        epsilon: float,
        clip: float | None,
        schedule: Schedule,
    ) -> None:
        """
        Args:
            learning_rate: largest learning rate, before the schedule.
            betas: decay rates of the first and second moment.
            weight_decay: weight decay of every parameter, or of those that the class names.
            epsilon: added to the root of the second moment.
            clip: largest norm of the gradient, None for no limit.
            schedule: schedule of the learning rate.

        Raises:
            ConfigError: a value out of its range.
        """
        if not 0 <= learning_rate <= 1:  # a step changes every parameter by about the learning rate
            raise ConfigError("learning_rate", learning_rate, expected="a number from 0 to 1")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ConfigError("betas", list(betas), expected="two numbers of at least 0 and below 1")
        if not 0 <= weight_decay < math.inf:
            raise ConfigError("weight_decay", weight_decay, expected="a finite number of at least 0")
        if not 0 < epsilon < math.inf:
            raise ConfigError("epsilon", epsilon, expected="a finite number above 0")
        if clip is not None and not 0 < clip < math.inf:
            raise ConfigError("clip", clip, expected="a finite number above 0, or null for no limit")
        self.learning_rate = learning_rate
        self.betas = (betas[0], betas[1])
        self.weight_decay = weight_decay
        self.epsilon = epsilon
        self.clip = clip
        self.schedule = schedule

    def learning_rate_at(self, update: int, updates: int) -> float:
        """Learning rate of the step that follows `update` finished ones, of `updates` in all."""
        return self.learning_rate * self.schedule.factor(update, updates)

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        """The torch optimizer over the parameters of a module."""
        return torch.optim.AdamW(
            self.groups(module), lr=self.learning_rate, betas=self.betas, weight_decay=self.weight_decay, eps=self.epsilon, fused=True
        )

    def groups(self, module: nn.Module) -> list[dict[str, Any]]:
        """Groups of parameters: those in blocks of trunks, then the others; in each, those with weight decay first. No group is empty.

        The fused kernel takes no mixture of sharded and plain parameters, and only blocks are sharded. The groups, and with them the
        order of the states in a checkpoint, do not depend on whether they are.
        """
        in_blocks = {parameter: None for block in blocks_of(module) for parameter in block.parameters()}
        others = [parameter for parameter in module.parameters() if parameter not in in_blocks]
        return [group for parameters in (in_blocks, others) for group in self.decay_groups(parameters) if group["params"]]

    def decay_groups(self, parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
        """Parameters by their weight decay."""
        return [{"params": list(parameters), "weight_decay": self.weight_decay}]


class MatrixDecayAdamW(AdamW):
    """AdamW with weight decay only on parameters of two dimensions or more: not on scales of norms, nor on biases."""

    def decay_groups(self, parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
        """Parameters with and without weight decay."""
        everything = list(parameters)
        decayed = {"params": [p for p in everything if p.ndim >= 2], "weight_decay": self.weight_decay}
        return [decayed, {"params": [p for p in everything if p.ndim < 2], "weight_decay": 0.0}]
