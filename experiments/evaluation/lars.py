"""Layer-wise adaptive rate scaling, for linear probes.

Source: You et al. 2017, arXiv:1708.03888. As in the linear probes of GigaTok (arXiv:2504.08736) the learning rate is outside of the
momentum, and parameters of one dimension are neither scaled nor decayed.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


class LARS(torch.optim.Optimizer):
    """Momentum over gradients g scaled by trust |w| / |g|: v = m v + scaled g; w = w - lr v.

    Args:
        parameters: parameters to update.
        learning_rate: key `lr` of the parameter groups, where a schedule changes it.
        momentum: in [0, 1).
        trust: length of a step relative to that of the weights, at a learning rate of 1.
        weight_decay: added to the gradient before it is scaled.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        learning_rate: float,
        momentum: float = 0.9,
        trust: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        if learning_rate < 0 or trust <= 0 or weight_decay < 0 or not 0 <= momentum < 1:
            settings = f"learning_rate={learning_rate} momentum={momentum} trust={trust} weight_decay={weight_decay}"
            raise ValueError(f"{settings}: expected >= 0, in [0, 1), > 0 and >= 0")
        super().__init__(parameters, {"lr": learning_rate, "momentum": momentum, "trust": trust, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step from the gradients; a closure is not called."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)

    def _step(self, parameter: nn.Parameter, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        if parameter.ndim > 1:
            gradient = gradient + group["weight_decay"] * parameter
            weights, gradient_length = parameter.norm(), gradient.norm()
            scale = torch.where((weights > 0) & (gradient_length > 0), group["trust"] * weights / gradient_length, torch.ones_like(weights))
            gradient = gradient * scale
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].mul_(group["momentum"]).add_(gradient)
        parameter.sub_(group["lr"] * state["momentum"])
