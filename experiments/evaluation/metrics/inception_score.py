"""Inception score from running sums. Imports no torch.

Paper: Salimans et al. 2016, arXiv:1606.03498.
Deviation: the ten splits are interleaved instead of shuffled, so that no feature needs to be stored.
"""

from typing import Any

from experiments.evaluation.metrics.inception_metric import InceptionMetric
from experiments.evaluation.results import Skipped

SPLITS = 10


class InceptionScore(InceptionMetric):
    """exp of the mean divergence between an image's classes and those of its split, averaged over ten splits."""

    key, label, better = "inception_score", "IS", "higher"
    aggregate = f"mean over {SPLITS} interleaved splits"
    fewest_images = 2 * SPLITS
    in_terminal = True

    def __init__(self, context: Any, sums: Any = None) -> None:
        import torch

        super().__init__(context, sums)
        self.seen = 0
        self.tensors = {name: torch.zeros(SPLITS, dtype=torch.float64) for name in ("counts", "negentropy")}
        self.tensors["shares"] = torch.zeros(SPLITS, context.classes, dtype=torch.float64)

    @classmethod
    def why_absent(cls, context: Any) -> Skipped | None:
        missing = super().why_absent(context)
        if missing is None and not context.classes:
            return Skipped(f"{context.networks[cls.network].name} is no classifier")
        return missing

    def reset(self) -> None:
        super().reset()
        self.seen = 0

    def update(self, batch: Any) -> None:
        """Image i of this process goes to split i modulo 10."""
        import torch

        logits = batch.features.logits
        split = (torch.arange(len(logits), device=logits.device) + self.seen) % SPLITS
        self.seen += len(logits)
        share = logits.double().softmax(1)
        self.tensors["counts"].index_add_(0, split, torch.ones_like(share[:, 0]))
        self.tensors["negentropy"].index_add_(0, split, -torch.special.entr(share).sum(1))
        self.tensors["shares"].index_add_(0, split, share)

    def compute(self) -> float:
        import torch

        counts, negentropy, shares = (self.joined[name] for name in ("counts", "negentropy", "shares"))
        used = counts > 0  # many processes with few images each may leave a split empty
        counts, negentropy, shares = counts[used], negentropy[used], shares[used]
        divergence = negentropy / counts + torch.special.entr(shares / counts.unsqueeze(1)).sum(1)
        return max(1.0, float(divergence.exp().mean()))  # below 1 by rounding alone
