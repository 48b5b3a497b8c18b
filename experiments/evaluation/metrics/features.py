"""What a feature network makes of pictures: the ground on which two sets of pictures are compared."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Of B images, all fp32.

    Attributes:
        pool: (B, F).
        spatial: (B, S), a feature map laid out in a row, None where the network offers none.
        logits: (B, classes), None where the network is no classifier.
    """

    pool: Tensor
    spatial: Tensor | None = None
    logits: Tensor | None = None


class FeatureExtractor(Protocol):
    """A frozen network.

    Attributes:
        name: for cards.
        backend: the library it comes from, with version, for cards.
        weights: file name and first digits of its SHA-256, for cards and to know its statistics again.
        resize: how it resizes its input, for cards.
        width: F.
        spatial_width: S, 0 where there are none.
        classes: 0 where there are none.
        device: where it computes; it moves its input there.
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
