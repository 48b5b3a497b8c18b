"""Features of images, by which two sets of images are compared."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Features of B images, all fp32.

    Attributes:
        pool: (B, F).
        spatial: (B, S) flattened feature map, None where the network has none.
        logits: (B, classes), None where the network is no classifier.
    """

    pool: Tensor
    spatial: Tensor | None = None
    logits: Tensor | None = None


class FeatureExtractor(Protocol):
    """A frozen network.

    Attributes:
        name: name in cards.
        backend: its library with version, for cards.
        weights: file name and first digits of the SHA-256, for cards and for the names of its statistics.
        resize: how it resizes its input, for cards.
        width: F.
        spatial_width: S, 0 without spatial features.
        classes: number of classes, 0 without logits.
        device: device of the network; its input is moved there.
    """

    name: str
    backend: str
    weights: str
    resize: str
    width: int
    spatial_width: int
    classes: int
    device: torch.device

    def __call__(self, images: Tensor) -> Features:
        """Features of (B, 3, H, W) in [0, 1]."""
        ...
