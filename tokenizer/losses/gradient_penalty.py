"""Gradient penalty on a discriminator at real images.

Papers: zero-centered, Mescheder et al. 2018, arXiv:1801.04406 ("R1"); one-centered, Gulrajani et al. 2017, arXiv:1704.00028 (WGAN-GP), at
points between real and fake images. arXiv:2412.02632 cites the latter for its table 11; its released code has the former with a weight of
10. Gradients are with respect to images in [0, 1], as in that code, whatever range a discriminator rescales them to.
"""

import torch
from torch import Tensor

from tokenizer.interfaces import AdversarialLoss
from tokenizer.layers.checks import require_at_least

TO_UNIT_RANGE = 2.0  # d/d(images / 2 + 1 / 2), from d/d(images)


class GradientPenaltyLoss(AdversarialLoss):
    """Mean over images of (|d(sum of an image's logits)/d(image)| - target)^2, for images in [0, 1].

    Args:
        target: gradient norm without a penalty, at least 0.
        every: interval of the penalty in updates; its weight does not depend on the interval.

    Raises:
        ValueError: a value out of range.
    """

    of_discriminator = ("gradient_penalty",)

    def __init__(self, target: float, every: int) -> None:
        super().__init__()
        require_at_least("loss.adversarial.gradient_penalty.target", target, 0)
        require_at_least("loss.adversarial.gradient_penalty.every", every, 1)
        self.target = target
        self.every = every

    def needs_image_grad(self, update: int) -> bool:
        """Whether update number `update`, counted from 1, has a penalty."""
        return update % self.every == 0

    def discriminator_terms(self, real_logits: Tensor, fake_logits: Tensor, real_images: Tensor, update: int) -> dict[str, Tensor]:
        """`gradient_penalty`, see `forward`, in updates that have one."""
        return {"gradient_penalty": self(real_logits, real_images)} if self.needs_image_grad(update) else {}

    def forward(self, real_logits: Tensor, images: Tensor) -> Tensor:
        """Differentiable scalar in fp32.

        Args:
            real_logits: (B, K) of `images`; except for batch statistics, the logits of an image must not depend on other images.
            images: (B, 3, H, W) in [-1, 1], a leaf tensor that requires a gradient.
        """
        (grad,) = torch.autograd.grad(real_logits.float().sum(), images, create_graph=True)
        grad = TO_UNIT_RANGE * grad.float().flatten(1)
        if self.target == 0:  # no square root, whose gradient at 0 is infinite
            return grad.square().sum(1).mean()
        norms: Tensor = torch.linalg.vector_norm(grad, dim=1)
        return (norms - self.target).square().mean()
