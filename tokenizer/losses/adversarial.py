"""Adversarial losses of generator and discriminator, in any combination of forms.

Papers: hinge, Lim & Ye 2017, arXiv:1705.02894; vanilla and non-saturating, Goodfellow et al. 2014, arXiv:1406.2661. Names and pairs as in
GSQ, arXiv:2412.02632 equations 19-23: "NH" is a non-saturating generator against a hinge discriminator.
Deviation: equations 21-23 have log(1 + exp(+|logit|)) where exp(-|logit|) is meant, the softplus below.
"""

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from tokenizer.interfaces import AdversarialLoss
from tokenizer.layers.checks import require_one_of

Form = Literal["hinge", "vanilla", "non_saturating"]


class PairedAdversarialLoss(AdversarialLoss):
    """One form of loss for the generator and one for the discriminator.

    `vanilla` averages the loss over patches; `non_saturating` is the same loss of the logits averaged over the patches of an image.

    Args:
        generator: form of the generator's loss.
        discriminator: form of the discriminator's loss.

    Raises:
        ValueError: an unknown form.
    """

    of_generator, of_discriminator = ("adversarial",), ("discriminator",)

    def __init__(self, generator: Form, discriminator: Form) -> None:
        super().__init__()
        for key, form in (("generator", generator), ("discriminator", discriminator)):
            require_one_of(f"loss.adversarial.gan.{key}", form, get_args(Form))
        self.generator = generator
        self.discriminator = discriminator

    def generator_terms(self, fake_logits: Tensor) -> dict[str, Tensor]:
        """`adversarial`, a scalar that decreases as the logits (B, K) of reconstructions increase."""
        logits = fake_logits.float()
        if self.generator == "hinge":
            return {"adversarial": -logits.mean()}
        if self.generator == "non_saturating":
            logits = logits.mean(1)
        return {"adversarial": F.softplus(-logits).mean()}

    def discriminator_terms(
        self, real_logits: Tensor, fake_logits: Tensor, real_images: Tensor | None = None, update: int = 1
    ) -> dict[str, Tensor]:
        """`discriminator`, a scalar that decreases as real (B, K) and fake (B, K) logits are separated."""
        real, fake = real_logits.float(), fake_logits.float()
        if self.discriminator == "hinge":
            return {"discriminator": (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2}
        if self.discriminator == "non_saturating":
            real, fake = real.mean(1), fake.mean(1)
        return {"discriminator": (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2}
