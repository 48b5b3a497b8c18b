"""Losses against unused codes: entropy of the assignments, and total coding rate of latents and codes.

Papers: Yu et al. 2023, arXiv:2310.05737, section 3.1 (entropy); Yu et al. 2020, arXiv:2006.08558 (coding rate); both compared in
arXiv:2412.02632, table 2. Deviations from the code published with the latter: assignments prefer the nearest instead of the farthest
codes, the batch entropy is maximized, and the coding rate includes the identity, so that it is finite for few tokens.
"""

import torch
from torch import Tensor, nn

from tokenizer.interfaces import Quantizer
from tokenizer.layers.checks import require_at_least, require_positive
from tokenizer.layers.distributed import sum_over_ranks
from tokenizer.layers.precision import full_precision


class EntropyLoss(nn.Module):
    """E[H(p)] - batch_weight H(E[p]): low entropy of each token's assignment, high entropy of their mean.

    Args:
        temperature: temperature of softmax(-squared distance / temperature), > 0.
        batch_weight: weight of the batch entropy, >= 0.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(self, temperature: float, batch_weight: float) -> None:
        super().__init__()
        require_positive("loss.entropy.temperature", temperature)
        require_at_least("loss.entropy.batch_weight", batch_weight, 0)
        self.temperature = temperature
        self.batch_weight = batch_weight

    def forward(self, quantizer: Quantizer, lookup_latents: Tensor) -> Tensor:
        """Scalar in nats, from the `lookup_latents` (B, N, G, d) of the quantizer's output."""
        sample, batch = quantizer.entropies(lookup_latents, self.temperature)
        return sample - self.batch_weight * batch


class TotalCodingRateLoss(nn.Module):
    """-1/2 logdet(I + d / (n epsilon^2) Z^T Z), for latents and for codes; low if they are spread over all directions.

    Args:
        epsilon: precision of the coding, > 0.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        require_positive("loss.total_coding_rate.epsilon", epsilon)
        self.epsilon = epsilon

    def forward(self, lookup_latents: Tensor, codes: Tensor | None) -> Tensor:
        """Scalar in nats.

        Args:
            lookup_latents: (B, N, G, d); rows of all groups and all processes form one set.
            codes: (V, d), the same on all processes, or None if codes are computed by a formula.
        """
        rows = lookup_latents.flatten(0, -2).float()
        with full_precision(rows.device):
            loss = -self._rate(sum_over_ranks(rows.t() @ rows), sum_over_ranks(rows.new_tensor(float(len(rows)))))
            if codes is not None:
                table = codes.float()
                loss = loss - self._rate(table.t() @ table, rows.new_tensor(float(len(table))))
        return loss

    def _rate(self, gram: Tensor, count: Tensor) -> Tensor:
        """Coding rate in nats, from Z^T Z (d, d) of `count` rows."""
        width = len(gram)
        scaled = gram.double() * (width / (count.double() * self.epsilon**2))
        return 0.5 * torch.logdet(torch.eye(width, dtype=torch.double, device=gram.device) + scaled).float()
