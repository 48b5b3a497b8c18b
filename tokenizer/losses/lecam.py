"""LeCAM: regularization of real and fake logits toward running means of each other, for discriminators trained on few images.

Paper: Tseng et al. 2021, arXiv:2104.03310, section 3.2, with the one-sided squares of its code; used in arXiv:2412.02632, table 11.
Deviation from both: the running means are those of the joined batch of all processes, and are saved in checkpoints.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenizer.interfaces import AdversarialLoss
from tokenizer.layers.checks import require_rate
from tokenizer.layers.distributed import sum_over_ranks, world_size


class LeCAMLoss(AdversarialLoss):
    """mean relu(real - m_fake)^2 + mean relu(m_real - fake)^2, with running means m of real and fake logits.

    The means are updated before they are used. An update is provisional until `end_update`, because the optimizer step may be skipped.

    Args:
        decay: decay of the running means per update, in [0, 1).

    Raises:
        ValueError: decay out of range.
    """

    of_discriminator = ("lecam",)
    couples_images = True
    means: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        require_rate("loss.adversarial.lecam.decay", decay)
        self.decay = decay
        self.register_buffer("means", torch.zeros(2))
        self._parts: list[Tensor] = []

    def forward(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Scalar in fp32 from logits (B, K). The parts of an accumulated batch so far count as one batch."""
        real, fake = real_logits.float(), fake_logits.float()
        batch = torch.stack([real.detach().mean(), fake.detach().mean()])
        self._parts.append(sum_over_ranks(batch) / world_size())
        real_mean, fake_mean = self._updated()
        return F.relu(real - fake_mean).square().mean() + F.relu(real_mean - fake).square().mean()

    def discriminator_terms(self, real_logits: Tensor, fake_logits: Tensor, real_images: Tensor, update: int) -> dict[str, Tensor]:
        """`lecam`, see `forward`."""
        return {"lecam": self(real_logits, fake_logits)}

    @torch.no_grad()
    def end_update(self, skipped: Tensor) -> None:
        """Store the new means, or discard them if the flag `skipped` (), read on the device, is above 0."""
        if self._parts:
            self.means.copy_(torch.where(skipped > 0, self.means, self._updated()))
            self._parts = []

    def _updated(self) -> Tensor:
        """Means (2,) of real and fake logits including the current batch."""
        return torch.lerp(torch.stack(self._parts).mean(0), self.means, self.decay)
