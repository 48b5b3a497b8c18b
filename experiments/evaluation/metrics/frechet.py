"""Fréchet distances of features from running sums: rFID, gFID and sFID, and the bases of such metrics. Imports no torch.

Papers: Heusel et al. 2017, arXiv:1706.08500; Nash et al. 2021, arXiv:2103.03841 (distance of spatial features). Sums and covariances are
float64.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from experiments.evaluation.metrics.inception_metric import FEATURES, InceptionMetric, ReferenceMetric
from experiments.evaluation.metrics.metric import Metric, RunningSums
from experiments.evaluation.results import Skipped

if TYPE_CHECKING:
    from torch import Tensor

    Moments = tuple[Tensor, Tensor]


class FeatureMoments(RunningSums):
    """Number, sum and summed outer products of features, in float64.

    Args:
        width: of the features.
    """

    def __init__(self, width: int) -> None:
        import torch

        shapes = {"count": (), "sum": (width,), "outer": (width, width)}
        super().__init__({name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()})

    def update(self, batch: "Tensor") -> None:
        """Add (B, width) features."""
        features = batch.double()
        self.add("count", len(features))
        self.add("sum", features.sum(0))
        self.tensors["outer"].addmm_(features.T, features)

    def compute(self) -> "Moments":
        """Mean (width,) and unbiased covariance (width, width) of at least two features, from sums that are joined."""
        import torch

        count, total, outer = (self.joined[name] for name in ("count", "sum", "outer"))
        mean = total / count
        return mean, (outer - count * torch.outer(mean, mean)) / (count - 1)


def moments_of(features: "Tensor") -> "Moments":
    """Mean and unbiased covariance of (n, width) features."""
    sums = FeatureMoments(features.shape[1])
    sums.update(features)
    sums.join()
    return sums.compute()


def frechet_distance(one: "Moments", other: "Moments") -> float:
    """Squared Fréchet distance of two normal distributions, each a mean (F,) and a covariance (F, F) in float64.

    The trace of the root of A B is the sum of the roots of the eigenvalues of R^T B R, where R R^T = A: that matrix is symmetric,
    so its eigenvalues are real and cheap. Fewer images than features make A singular; then R comes from A's own eigenvectors.
    """
    import torch

    (mean_a, covariance_a), (mean_b, covariance_b) = one, other
    root, failed = torch.linalg.cholesky_ex(covariance_a)
    if failed:
        squares, axes = torch.linalg.eigh(covariance_a)
        root = axes * squares.clamp(min=0).sqrt()
    eigenvalues = torch.linalg.eigvalsh(root.T @ covariance_b @ root)
    trace = covariance_a.trace() + covariance_b.trace() - 2 * eigenvalues.clamp(min=0).sqrt().sum()
    return max(0.0, float((mean_a - mean_b).square().sum() + trace))  # rounding makes the distance of equal moments negative


class ReconstructionDistance(Metric):
    """Distance of reconstructions to their images; a subclass defines `features_of`."""

    better = "lower"
    aggregate = "covariances of all images"
    fewest_images = 2
    in_terminal = True
    width: ClassVar[int]  # of the features

    def __init__(self, context: Any, sums: Any = None) -> None:
        super().__init__(context, sums)
        self.real, self.fake = self.parts = FeatureMoments(self.width), FeatureMoments(self.width)

    def features_of(self, batch: Any) -> "tuple[Tensor, Tensor]":
        """(B, width) features of the images and of their reconstructions."""
        raise NotImplementedError

    def update(self, batch: Any) -> None:
        for moments, features in zip((self.real, self.fake), self.features_of(batch), strict=True):
            moments.update(features)

    def compute(self) -> float:
        return frechet_distance(self.real.compute(), self.fake.compute())


class SampleDistance(ReferenceMetric):
    """Distance of samples to a reference."""

    better = "lower"
    aggregate = "covariances of all images"
    fewest_images = 2
    features, width, moments = "pool", "width", "moments"  # attributes of the features, of the network and of the reference

    def __init__(self, context: Any, sums: Any = None) -> None:
        super().__init__(context, sums)
        self.extractor, self.reference = context.networks[self.network], context.references[self.network]
        self.feature_width = getattr(self.extractor, self.width)
        self.generated = FeatureMoments(self.feature_width)
        self.parts = [self.generated]

    def update(self, batch: Any) -> None:
        self.generated.update(getattr(batch.features_by(self.network), self.features))

    def compute(self) -> float:
        mean, covariance = (moment.to(self.extractor.device) for moment in getattr(self.reference, self.moments))
        return frechet_distance((mean, covariance), self.generated.compute())

    def card(self, n: int) -> dict[str, Any]:
        singular = "" if n > self.feature_width else f", singular: no more images than the {self.feature_width} features"
        return {**super().card(n), "aggregate": f"{self.aggregate}{singular}"}


class RFID(InceptionMetric, ReconstructionDistance):
    """Distance of Inception features of reconstructions to those of their images."""

    key, label = "rfid", "rFID"
    width = FEATURES

    def features_of(self, batch: Any) -> "tuple[Tensor, Tensor]":
        return batch.real_features.pool, batch.features.pool


class GFID(InceptionMetric, SampleDistance):
    """Distance of Inception features of samples to a reference."""

    key, label = "gfid", "gFID"


class SFID(GFID):
    """Distance of spatial features of samples to a reference."""

    key, label = "sfid", "sFID"
    aggregate = "unverified: not compared with ADM's evaluator; covariances of all images"
    features, width, moments = "spatial", "spatial_width", "spatial"

    @classmethod
    def why_absent(cls, context: Any) -> Skipped | None:
        missing = super().why_absent(context)
        if missing is not None:
            return missing
        network, reference = context.networks[cls.network], context.references[cls.network]
        if not network.spatial_width:
            return Skipped(f"{network.name} has no spatial features")
        return Skipped(f"the reference has no spatial statistics: {reference.description}") if reference.spatial is None else None
