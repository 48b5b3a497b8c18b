"""Entropies of soft assignments to a table of codes, without storing the n x V probabilities.

Sample and batch entropy as in MAGVIT-2 (arXiv:2310.05737, section 3.1), with p = softmax(-squared distance / temperature).
Probabilities are computed in chunks and recomputed in the backward pass.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tokenizer.layers.distributed import sum_over_ranks
from tokenizer.layers.precision import compute_dtype, full_precision
from tokenizer.quantizers.lookup import max_temp_elements


def table_entropies(latents: Tensor, codes: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Entropies of softmax(-|latent - code|^2 / temperature).

    Args:
        latents: (n, d) from this process.
        codes: (V, d).
        temperature: > 0.

    Returns:
        (sample, batch) in nats: the mean of H(p_n) over the rows of this process, and H of the mean of p over the rows of all processes.
    """
    dtype = compute_dtype(latents, codes)
    latents, codes = latents.to(dtype), codes.to(dtype)
    total, mass = latents.new_zeros(()), latents.new_zeros(len(codes))
    for chunk in torch.split(latents, max(1, max_temp_elements(latents.device) // len(codes))):
        entropy, part = checkpoint(_statistics, chunk, codes, temperature, use_reentrant=False, preserve_rng_state=False)
        total, mass = total + entropy, mass + part
    return total / len(latents), entropy_of_mean(mass, len(latents))


def group_entropies(latents: Tensor, codes: Sequence[Tensor], temperature: float) -> tuple[Tensor, Tensor]:
    """`table_entropies` of each group with its own codes, averaged over groups.

    Args:
        latents: (B, N, G, d) from this process.
        codes: one table (V, d) for each group.
        temperature: > 0.
    """
    pairs = [table_entropies(rows.flatten(0, 1), table, temperature) for rows, table in zip(latents.unbind(2), codes, strict=True)]
    sample, batch = (torch.stack(values).mean() for values in zip(*pairs, strict=True))
    return sample, batch


def entropy_of_mean(mass: Tensor, count: int) -> Tensor:
    """Entropy in nats of the mean distribution, from the sum of the `count` distributions of this process."""
    total = sum_over_ranks(mass.new_tensor(float(count)))
    # The clamp keeps the gradient of x log x finite at a probability of zero.
    mass = sum_over_ranks(mass).clamp(min=torch.finfo(mass.dtype).tiny)
    entropy: Tensor = total.log() + torch.special.entr(mass).sum() / total
    return entropy


def _statistics(latents: Tensor, codes: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Sums of entropies and of probabilities over rows."""
    with full_precision(latents.device):
        scores = torch.addmm(-codes.square().sum(1), latents, codes.t(), alpha=2.0)
        logarithms = (scores / temperature).log_softmax(1)
        probabilities = logarithms.exp()
        return -(probabilities * logarithms).sum(), probabilities.sum(0)
