"""Precision and recall of samples. Imports no torch.

Paper: Kynkäänniemi et al. 2019, arXiv:1904.06991; see `experiments.evaluation.metrics.neighbors`.
"""

from typing import Any

from experiments.evaluation.metrics.inception_metric import InceptionMetric, ReferenceMetric
from experiments.evaluation.metrics.metric import RunningSums
from experiments.evaluation.results import Skipped

NEIGHBORS = 3
NETWORK = "inception"


class StoredFeatures(RunningSums):
    """A bounded choice of features of samples, on the CPU. For one process."""

    def __init__(self, context: Any) -> None:
        from experiments.evaluation.metrics.reservoir import Reservoir

        super().__init__({})
        self.context = context
        self.rows = Reservoir(context.stored_features, context.networks[NETWORK].width)

    def reset(self) -> None:
        self.rows.reset()

    def update(self, batch: Any) -> None:
        self.rows.update(batch.features_by(NETWORK).pool)

    def join(self) -> None:
        """Compute both numbers, which share their distances."""
        from experiments.evaluation.metrics.neighbors import precision_recall

        device = self.context.networks[NETWORK].device
        features = self.context.references[NETWORK].features
        shares = precision_recall(self.rows.rows.to(device), features.to(device), NEIGHBORS)
        self.shares = dict(zip(("precision", "recall"), shares, strict=True))


class NeighborMetric(InceptionMetric, ReferenceMetric):
    """A share of features inside of the balls of the other set."""

    better = "higher"
    dtype = "float32 features, float64 distances"
    fewest_images = NEIGHBORS + 1
    shared = StoredFeatures

    @classmethod
    def why_absent(cls, context: Any) -> Skipped | None:
        missing = super().why_absent(context)
        if missing is not None:
            return missing
        reference = context.references[NETWORK]
        count = 0 if reference.features is None else len(reference.features)
        if count > NEIGHBORS:
            return None
        return Skipped(f"the reference has {count} features of single images, more than {NEIGHBORS} are needed: {reference.description}")

    def compute(self) -> float:
        return self.sums.shares[self.key]  # type: ignore[no-any-return]

    def card(self, n: int) -> dict[str, Any]:
        balls = f"balls to neighbor {NEIGHBORS}, {self.sums.rows} generated, {len(self.context.references[NETWORK].features)} real features"
        return {**super().card(n), "backend": "tessera", "aggregate": balls}


class Precision(NeighborMetric):
    """Share of samples that are near reference images."""

    key, label = "precision", "precision"


class Recall(NeighborMetric):
    """Share of reference images that are near samples."""

    key, label = "recall", "recall"
