"""What generator and discriminator want of the logits; any form for the one goes with any form for the other.

Papers: hinge, Lim & Ye 2017, arXiv:1705.02894; vanilla and non-saturating, Goodfellow et al. 2014, arXiv:1406.2661. Names and pairs as in
GSQ, arXiv:2412.02632 equations 19-23: "NH" is a non-saturating generator against a hinge discriminator.
Deviation: equations 21-23 print log(1 + exp(+|logit|)); meant is exp(-|logit|), the softplus below.
"""

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from tokenizer.interfaces import AdversarialLoss
from tokenizer.layers.checks import require_one_of

Form = Literal["hinge", "vanilla", "non_saturating"]


class PairedAdversarialLoss(AdversarialLoss):
    """A form for each player of the game on logits of "real".

    `vanilla` averages the loss over patches; `non_saturating` averages the logits of an image first and then takes the same loss.
    """

    def __init__(self, generator: Form, discriminator: Form) -> None:
        """Choose a form for each player.

        Raises:
            ValueError: an unknown form.
        """
        super().__init__()
        for key, form in (("generator", generator), ("discriminator", discriminator)):
            require_one_of(f"loss.adversarial.{key}", form, get_args(Form))
        self.generator = generator
        self.discriminator = discriminator

    def generator_terms(self, fake_logits: Tensor) -> dict[str, Tensor]:
        """`adversarial`, a scalar that falls as the discriminator takes the fakes (B, K) for real."""
        logits = fake_logits.float()
        if self.generator == "hinge":
            return {"adversarial": -logits.mean()}
        if self.generator == "non_saturating":
            logits = logits.mean(1)
        return {"adversarial": F.softplus(-logits).mean()}

    def discriminator_terms(self, real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
        """`discriminator`, a scalar that falls as real (B, K) and fake (B, K) are told apart."""
        real, fake = real_logits.float(), fake_logits.float()
        if self.discriminator == "hinge":
            return {"discriminator": (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2}
        if self.discriminator == "non_saturating":
            real, fake = real.mean(1), fake.mean(1)
        return {"discriminator": (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2}
