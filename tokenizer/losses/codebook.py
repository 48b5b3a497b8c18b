"""Losses against unused codes: entropy of the assignments, and total coding rate of latents and codes.

Papers: Yu et al. 2023, arXiv:2310.05737, section 3.1 (entropy); Yu et al. 2020, arXiv:2006.08558 (coding rate); both compared in
arXiv:2412.02632, table 2. Deviations from the code published with the latter: assignments prefer the nearest instead of the farthest
codes, the batch entropy is maximized, and the coding rate includes the identity, so that it is finite for few tokens.
"""

import torch
from torch import Tensor

from tokenizer.interfaces import InnerLoss, TokenizerParts, TrainingPass
from tokenizer.layers.checks import require_at_least, require_positive
from tokenizer.layers.distributed import sum_over_ranks
from tokenizer.layers.precision import full_precision


class EntropyLoss(InnerLoss):
    """E[H(p)] - batch_weight H(E[p]): low entropy of each token's assignment, high entropy of their mean.

    Args:
        temperature: temperature of softmax(-squared distance / temperature), > 0.
        batch_weight: weight of the batch entropy, >= 0.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(self, temperature: float, batch_weight: float) -> None:
        super().__init__()
        require_positive("loss.inner.entropy.temperature", temperature)
        require_at_least("loss.inner.entropy.batch_weight", batch_weight, 0)
        self.couples_images = batch_weight > 0
        self.temperature = temperature
        self.batch_weight = batch_weight

    def forward(self, tokenizer: TokenizerParts, current: TrainingPass) -> Tensor:
        """Scalar in nats, from the `lookup_latents` (B, N, G, d) of the quantizer's output."""
        sample, batch = tokenizer.quantizer.entropies(current.output.quantizer.lookup_latents, self.temperature)
        return sample - self.batch_weight * batch

    @torch.no_grad()
    def check(self, tokenizer: TokenizerParts, image_size: int) -> None:
        """Compute the entropies of two tokens.

        Raises:
            NotImplementedError: the quantizer has none.
        """
        latents = torch.zeros(1, 2, tokenizer.quantizer.latent_dim)
        tokenizer.quantizer.entropies(tokenizer.quantizer(latents).lookup_latents, self.temperature)


class TotalCodingRateLoss(InnerLoss):
    """-1/2 logdet(I + d / (n epsilon^2) Z^T Z), for latents and for codes; low if they are spread over all directions.

    Args:
        epsilon: precision of the coding, > 0.

    Raises:
        ValueError: a value out of range.
    """

    couples_images = True

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        require_positive("loss.inner.total_coding_rate.epsilon", epsilon)
        self.epsilon = epsilon

    def forward(self, tokenizer: TokenizerParts, current: TrainingPass) -> Tensor:
        """Scalar in nats, from `lookup_latents` (B, N, G, d), whose rows of all groups and processes form one set, and from the codes."""
        rows, codes = current.output.quantizer.lookup_latents.flatten(0, -2).float(), tokenizer.quantizer.codes
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
