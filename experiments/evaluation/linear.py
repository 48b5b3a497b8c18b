"""Linear probes: accuracy of a linear layer on frozen features.

Source: GigaTok (arXiv:2504.08736), section 5: batch normalization without weights, a linear layer initialized with std 0.01, LARS,
learning rate 0.1 for each 256 rows of a batch, 90 epochs of which 10 warm up, cosine to 0, cross-entropy, top-1 accuracy.
Deviations, on purpose: features are computed once, by models in eval mode (the released code leaves dropout on while it trains the
probe of a generator), of the stored views of each image instead of fresh random crops. So one process sees every batch whole, and the
statistics of its normalization are those of the joined batch (the released code uses those of each device's part).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from experiments.config.errors import DataError

REFERENCE_BATCH = 256  # batch size for which the learning rate is stated
STD = 0.01  # of the initial weights


@dataclass(frozen=True)
class ProbeSettings:
    """Settings of a linear probe; their bounds are in `experiments.config.settings.LinearSettings`."""

    learning_rate: float  # for a batch of 256; proportional to the batch size
    batch_size: int  # rows; fewer if there are fewer images
    epochs: int  # passes over the images, with one view of each
    warmup_epochs: int
    momentum: float  # of LARS
    trust: float  # of LARS
    seed: int  # of weights, order and views


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling: momentum over gradients g scaled by trust |w| / |g|: v = m v + scaled g; w = w - lr v.

    Source: You et al. 2017, arXiv:1708.03888. As in the linear probes of GigaTok the learning rate is outside of the momentum, and
    parameters of one dimension are neither scaled nor decayed.

    Args:
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


class LinearProbe(nn.Module):
    """Normalization without weights, then a linear layer."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=False, eps=1e-6)
        self.head = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.head.weight, std=STD)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, width) to logits (B, classes)."""
        logits: Tensor = self.head(self.norm(features))
        return logits


def linear_accuracy(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], classes: int, settings: ProbeSettings) -> float:
    """Top-1 accuracy in [0, 1] of a linear probe on images that it was not trained on.

    Args:
        train: features (n, views, width) and labels (n,) int64 in 0 .. classes - 1.
        val: features (m, width) and labels (m,).
        classes: at least 2.
        settings: settings of the training.

    Raises:
        DataError: fewer than two classes, or no image in a split.
    """
    if classes < 2 or len(val[1]) == 0 or len(train[1]) < 2:
        counts = f"{classes} classes on {len(train[1])} and {len(val[1])} images"
        raise DataError(None, f"a linear probe of {counts}: expected at least 2, 2 and 1")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        probe = LinearProbe(train[0].shape[-1], classes)
    probe.to(train[0].device)
    _fit(probe, *train, settings)
    probe.eval()
    with torch.no_grad():
        return float((probe(val[0].float()).argmax(-1) == val[1]).double().mean())


def warmup_cosine(step: int, warmup: int, steps: int) -> float:
    """Factor of the learning rate: linear from 0 at the first step, then half a cosine to 0 at `steps`."""
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _fit(probe: LinearProbe, features: Tensor, labels: Tensor, settings: ProbeSettings) -> None:
    """Train on random views in random order; rows of an incomplete batch are left to later epochs."""
    count, views, _ = features.shape
    rows = min(settings.batch_size, count)
    batches = count // rows
    largest = settings.learning_rate * rows / REFERENCE_BATCH
    optimizer = LARS(probe.parameters(), largest, settings.momentum, settings.trust)
    random = torch.Generator().manual_seed(settings.seed)
    probe.train()
    for epoch in range(settings.epochs):
        order = torch.randperm(count, generator=random)[: rows * batches].to(features.device)
        chosen = torch.randint(views, (len(order),), generator=random).to(features.device)
        for number, (places, view) in enumerate(zip(torch.split(order, rows), torch.split(chosen, rows), strict=True)):
            step, warmup = epoch * batches + number, settings.warmup_epochs * batches
            optimizer.param_groups[0]["lr"] = largest * warmup_cosine(step, warmup, settings.epochs * batches)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(probe(features[places, view].float()), labels[places])
            torch.autograd.backward(loss)
            optimizer.step()
