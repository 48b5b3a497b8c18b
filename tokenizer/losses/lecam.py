"""LeCAM: logits are drawn to where the other side's were, so that a discriminator of few pictures does not run away.

Paper: Tseng et al. 2021, arXiv:2104.03310, section 3.2, with the one-sided squares of its code; used in arXiv:2412.02632, table 11.
Deviation from both: the running means are those of the joined batch of all processes, and are saved with the run.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.layers.distributed import sum_over_ranks, world_size


class LeCAMLoss(nn.Module):
    """mean relu(real - m_fake)^2 + mean relu(m_real - fake)^2, with m the running means of real and fake logits.

    The means move before they are used. What a batch moves is provisional until `keep`, because the step may yet be refused.
    """

    means: Tensor

    def __init__(self, decay: float) -> None:
        """Start at means of 0.

        Args:
            decay: of the running means, by update, in [0, 1).

        Raises:
            ValueError: another decay.
        """
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"loss.lecam.decay={decay}: expected in [0, 1)")
        self.decay = decay
        self.register_buffer("means", torch.zeros(2))
        self._parts: list[Tensor] = []

    def forward(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """(B, K) and (B, K) to a scalar, in fp32. Parts of an accumulated batch count as one: what was seen of it so far."""
        real, fake = real_logits.float(), fake_logits.float()
        batch = torch.stack([real.detach().mean(), fake.detach().mean()])
        self._parts.append(sum_over_ranks(batch) / world_size())
        real_mean, fake_mean = self._moved()
        return F.relu(real - fake_mean).square().mean() + F.relu(real_mean - fake).square().mean()

    @torch.no_grad()
    def keep(self, refused: Tensor) -> None:
        """End an update: keep what it moved, or with `refused` () above 0, a flag that stays on the device, go back."""
        if self._parts:
            self.means.copy_(torch.where(refused > 0, self.means, self._moved()))
            self._parts = []

    def _moved(self) -> Tensor:
        """(2,) the means of real and fake with the batch at hand."""
        return torch.lerp(torch.stack(self._parts).mean(0), self.means, self.decay)
