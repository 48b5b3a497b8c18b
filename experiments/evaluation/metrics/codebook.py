"""Usage and perplexity of a codebook over a whole evaluation set.

Source: Wang et al. 2024, arXiv:2412.02632, tables 1 to 3. Counts are summed over images, groups and ranks before anything
is computed of them: an average of per-batch usages would depend on the batch size.
"""

import torch
from torch import Tensor

from tokenizer.layers.distributed import sum_over_ranks

MAX_COUNTED_CODES = 2**24


class CodebookCounts:
    """How often each code of each group was chosen."""

    def __init__(self, groups: int, codebook_size: int) -> None:
        """Start at zero.

        Raises:
            ValueError: more codes than can be counted.
        """
        if codebook_size > MAX_COUNTED_CODES:
            raise ValueError(f"not counted: codebook_size {codebook_size} is above {MAX_COUNTED_CODES}")
        self.counts = torch.zeros(groups, codebook_size, dtype=torch.int64)

    def reset(self) -> None:
        """Forget all."""
        self.counts.zero_()

    def to(self, device: torch.device | str) -> None:
        """Count on another device."""
        self.counts = self.counts.to(device)

    def update(self, indices: Tensor) -> None:
        """Count (B, N, G) int64 indices in [0, V), without reading anything back to the host."""
        groups, codebook_size = self.counts.shape
        first = torch.arange(groups, device=indices.device) * codebook_size
        flat = (indices + first).flatten()
        self.counts.view(-1).scatter_add_(0, flat, torch.ones_like(flat))

    def compute(self) -> dict[str, float]:
        """Usage in [0, 1] and perplexity in [1, V] of the summed counts of all ranks.

        Returns:
            `codebook_usage` and `perplexity` of the counts summed over groups, as fits a shared codebook;
            `codebook_usage_product` over groups and `perplexity_per_group`, the mean over groups.
        """
        counts = sum_over_ranks(self.counts)
        return {
            "codebook_usage": float(usage(counts.sum(0))),
            "perplexity": float(perplexity(counts.sum(0))),
            "codebook_usage_product": float(usage(counts).prod()),
            "perplexity_per_group": float(perplexity(counts).mean()),
        }


def usage(counts: Tensor) -> Tensor:
    """Share in [0, 1] of the codes that were chosen at all: (..., V) counts to (...) float64."""
    return (counts > 0).double().mean(-1)


def perplexity(counts: Tensor) -> Tensor:
    """exp of the entropy of the choices, the effective number of codes: (..., V) counts to (...) float64."""
    share = counts.double() / counts.sum(-1, keepdim=True)
    entropy: Tensor = torch.special.entr(share).sum(-1)
    return entropy.exp()
