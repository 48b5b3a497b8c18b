"""Gradient penalty: a discriminator whose logits change slowly from real picture to real picture.

Papers: zero-centred, Mescheder et al. 2018, arXiv:1801.04406 ("R1"); one-centred, Gulrajani et al. 2017, arXiv:1704.00028 (WGAN-GP), there
between real and fake pictures. arXiv:2412.02632 cites the latter for its table 11, its released code has the former, at real pictures,
with a weight of 10. Slopes are those over images in [0, 1], as there, whatever range a discriminator rescales them to.
"""

import torch
from torch import Tensor, nn

from tokenizer.layers.checks import require_at_least

TO_UNIT_RANGE = 2.0  # d/d(images / 2 + 1 / 2), from d/d(images)


class GradientPenaltyLoss(nn.Module):
    """mean over images of (|d(sum of an image's logits)/d(image)| - target)^2, the image in [0, 1]."""

    def __init__(self, target: float, every: int) -> None:
        """Choose the slope and the interval.

        Args:
            target: length of the gradient that is not punished, at least 0.
            every: updates between two penalties; the weight is not raised by it.

        Raises:
            ValueError: a negative target, or an interval below 1.
        """
        super().__init__()
        require_at_least("loss.gradient_penalty.target", target, 0)
        require_at_least("loss.gradient_penalty.every", every, 1)
        self.target = target
        self.every = every

    def is_due(self, update: int) -> bool:
        """Whether update number `update`, counted from 1, has a penalty."""
        return update % self.every == 0

    def forward(self, real_logits: Tensor, images: Tensor) -> Tensor:
        """Scalar with a gradient of its own, in fp32.

        Args:
            real_logits: (B, K) of `images`; an image's logits must not depend on the other images but for batch statistics.
            images: (B, 3, H, W) in [-1, 1], a leaf that requires a gradient.
        """
        (slopes,) = torch.autograd.grad(real_logits.float().sum(), images, create_graph=True)
        slopes = TO_UNIT_RANGE * slopes.float().flatten(1)
        if self.target == 0:  # no square root, whose own slope at 0 is infinite
            return slopes.square().sum(1).mean()
        lengths: Tensor = torch.linalg.vector_norm(slopes, dim=1)
        return (lengths - self.target).square().mean()
