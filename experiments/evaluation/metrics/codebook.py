"""Usage and perplexity of a codebook over a whole evaluation set. Imports no torch.

Source: Wang et al. 2024, arXiv:2412.02632, tables 1 to 3. Counts are summed over images, groups and ranks before anything
is computed from them: an average of per-batch usages would depend on the batch size.
"""

from typing import TYPE_CHECKING, Any

from experiments.evaluation.metrics.metric import Metric, RunningSums
from experiments.evaluation.results import Skipped

if TYPE_CHECKING:
    from torch import Tensor

MAX_COUNTED_CODES = 2**24


class CodebookCounts(RunningSums):
    """Number of times that each code of each group was chosen, (G, V) int64."""

    def __init__(self, groups: int, codebook_size: int) -> None:
        import torch

        super().__init__({"counts": torch.zeros(groups, codebook_size, dtype=torch.int64)})

    @property
    def counts(self) -> "Tensor":
        """Those of this rank."""
        return self.tensors["counts"]

    def count(self, indices: "Tensor") -> None:
        """Count (B, N, G) int64 indices in [0, V), without reading anything back to the host."""
        import torch

        groups, codebook_size = self.counts.shape
        first = torch.arange(groups, device=indices.device) * codebook_size
        flat = (indices + first).flatten()
        self.counts.view(-1).scatter_add_(0, flat, torch.ones_like(flat))

    def update(self, batch: Any) -> None:
        self.count(batch.indices)


def usage(counts: "Tensor") -> "Tensor":
    """Share in [0, 1] of the codes that were chosen at all: (..., V) counts to (...) float64."""
    return (counts > 0).double().mean(-1)


def perplexity(counts: "Tensor") -> "Tensor":
    """exp of the entropy of the choices, the effective number of codes: (..., V) counts to (...) float64."""
    import torch

    share = counts.double() / counts.sum(-1, keepdim=True)
    entropy: Tensor = torch.special.entr(share).sum(-1)
    return entropy.exp().clamp(max=counts.shape[-1])  # above by rounding alone


class CodebookMetric(Metric):
    """A number of the counts."""

    shared = CodebookCounts

    @classmethod
    def make_shared(cls, context: Any) -> CodebookCounts:
        return CodebookCounts(context.quantizer.groups, context.quantizer.codebook_size)

    @classmethod
    def why_absent(cls, context: Any) -> Skipped | None:
        size = context.quantizer.codebook_size
        return Skipped(f"not counted: codebook_size {size} is above {MAX_COUNTED_CODES}") if size > MAX_COUNTED_CODES else None

    @property
    def counts(self) -> "Tensor":
        """Those of all ranks."""
        counts: Tensor = self.sums.joined["counts"]
        return counts


class CodebookUsage(CodebookMetric):
    """Share of the codes that were chosen, in [0, 1]; groups share their counts, as fits a shared codebook."""

    key, label, unit, better = "codebook_usage", "usage", "%", "higher"
    aggregate = "counts summed over images and groups"
    in_terminal = True

    def compute(self) -> float:
        return float(usage(self.counts.sum(0)))


class Perplexity(CodebookMetric):
    """Effective number of codes, in [1, V]; groups share their counts."""

    key, label, better = "perplexity", "PPL", "higher"
    aggregate = "counts summed over images and groups"
    in_terminal = True

    def compute(self) -> float:
        return float(perplexity(self.counts.sum(0)))


class CodebookUsageProduct(CodebookMetric):
    """Product of the usages of all groups, in [0, 1]."""

    key, label, unit, better = "codebook_usage_product", "usage product", "%", "higher"
    aggregate = "counts summed over images, product over groups"

    def compute(self) -> float:
        return float(usage(self.counts).prod())


class PerplexityPerGroup(CodebookMetric):
    """Mean of the perplexities of all groups, in [1, V]."""

    key, label, better = "perplexity_per_group", "PPL per group", "higher"
    aggregate = "counts summed over images, mean over groups"

    def compute(self) -> float:
        return float(perplexity(self.counts).mean())
