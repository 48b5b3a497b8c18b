"""Linear probes: how well a linear layer on frozen features tells the classes apart.

Source: GigaTok (arXiv:2504.08736), section 5: batch normalisation without weights, a linear layer drawn with deviation 0.01, LARS,
learning rate 0.1 for each 256 rows of a batch, 90 epochs of which 10 warm up, cosine to 0, cross-entropy, top-1 accuracy.
Deviations, on purpose: features are computed once, by models in eval mode (the released code leaves dropout on while it trains the
probe of a generator), of the stored views of each picture instead of fresh random crops. So one process sees every batch whole, and the
statistics of its normalisation are those of the joined batch (the released code takes those of each device's part).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiments.evaluation.lars import LARS

REFERENCE_BATCH = 256
"""Rows of a batch that the learning rate is stated for."""
DEVIATION = 0.01


@dataclass(frozen=True)
class ProbeSettings:
    """How a linear probe is trained.

    Attributes:
        learning_rate: for 256 rows of a batch; a larger batch has a larger one.
        batch_size: rows; fewer if there are fewer pictures.
        epochs: passes over the pictures, each of which shows one of its views.
        warmup_epochs: of them.
        momentum: of LARS.
        trust: of LARS.
        seed: of weights, order and views.
    """

    learning_rate: float
    batch_size: int
    epochs: int
    warmup_epochs: int
    momentum: float
    trust: float
    seed: int

    def __post_init__(self) -> None:
        """Judge the lengths.

        Raises:
            ValueError: a number out of range.
        """
        if self.batch_size < 2 or self.epochs < 1 or not 0 <= self.warmup_epochs <= self.epochs:
            given = f"batch_size={self.batch_size} epochs={self.epochs} warmup_epochs={self.warmup_epochs}"
            raise ValueError(f"linear: {given}: expected at least 2 and 1, and a warm-up within the epochs; change `linear`")


class LinearProbe(nn.Module):
    """Normalisation without weights, then a linear layer."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=False, eps=1e-6)
        self.head = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.head.weight, std=DEVIATION)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, width) to logits (B, classes)."""
        logits: Tensor = self.head(self.norm(features))
        return logits


def linear_accuracy(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], classes: int, settings: ProbeSettings) -> float:
    """Top-1 accuracy in [0, 1] of a linear probe on pictures that it was not trained on.

    Args:
        train: features (n, views, width) and labels (n,) int64 in 0 .. classes - 1.
        val: features (m, width) and labels (m,).
        classes: at least 2.
        settings: how it is trained.

    Raises:
        ValueError: fewer than two classes, or no picture on a side.
    """
    if classes < 2 or len(val[1]) == 0 or len(train[1]) < 2:
        raise ValueError(f"a linear probe of {classes} classes on {len(train[1])} and {len(val[1])} pictures: expected at least 2, 2 and 1")
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
    """Train on random views in random order; rows that would make a short batch wait for another epoch."""
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
