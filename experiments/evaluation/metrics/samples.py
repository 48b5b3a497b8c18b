"""All numbers of samples, each with its card."""

from functools import cached_property
from typing import Any

from torch import Tensor

from experiments.data.transforms import to_bytes
from experiments.evaluation import metrics
from experiments.evaluation.metrics.digits_classifier import DigitsClassifier
from experiments.evaluation.metrics.inception import FeatureExtractor, Features
from experiments.evaluation.metrics.metric import Metric
from experiments.evaluation.metrics.metric_set import MetricSet
from experiments.evaluation.metrics.reference import ReferenceStatistics, identity
from experiments.evaluation.results import Results, Skipped

STORED = 50_000  # features of samples for precision and recall, as many as the papers generate: 410 MB in fp32


class SampleBatch:
    """Samples (B, 3, H, W) in [0, 1] with the (B,) labels that were asked for, and their features."""

    def __init__(self, images: Tensor, labels: Tensor, network: FeatureExtractor | Skipped) -> None:
        self.images, self.labels, self.network = images, labels, network
        self.device = images.device if isinstance(network, Skipped) else network.device

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def features(self) -> Features:
        """Features of the samples."""
        assert not isinstance(self.network, Skipped)
        return self.network(self.images)


class SampleMetrics(MetricSet):
    """Running metrics of samples. For one process.

    Args:
        network: feature network; the reason where there is none.
        reference: of real images, by the same network; None leaves the inception score alone.
        classifier: of digits, None for other data.
        image_size: side of the images in pixels.
        card_fields: see `MetricSet`.
        stored_features: features stored for precision and recall, a random choice from more samples.

    Raises:
        ValueError: the reference was made with another network.
    """

    verb = "generated"

    def __init__(
        self,
        network: FeatureExtractor | Skipped,
        reference: ReferenceStatistics | None,
        classifier: DigitsClassifier | None,
        image_size: int,
        card_fields: dict[str, Any],
        stored_features: int = STORED,
    ) -> None:
        if reference is not None and not isinstance(network, Skipped) and reference.network != identity(network):
            raise ValueError(f"the reference was made with {reference.network}, expected {identity(network)}")
        self.network, self.reference, self.classifier, self.stored_features = network, reference, classifier, stored_features
        self.classes = 0 if isinstance(network, Skipped) else network.classes
        fields = {"reference": "none" if reference is None else reference.description, **card_fields}
        super().__init__(metrics.SAMPLE_METRICS, image_size, fields)

    def why_no_network(self, metric: type[Metric]) -> Skipped | None:
        return self.network if isinstance(self.network, Skipped) else None

    def network_fields(self, metric: Metric) -> dict[str, Any]:
        network = self.network
        if metric.network is None or isinstance(network, Skipped):
            return super().network_fields(metric)
        return {"backend": network.backend, "network": network.name, "weights": network.weights, "resize": network.resize}

    def update(self, images: Tensor, labels: Tensor) -> None:
        """Add (B, 3, H, W) images in [0, 1] with the (B,) labels that were asked for; B may be 0.

        They are rounded to 8 bits, as in the image files that published numbers are computed from: with few or small images a Fréchet
        distance notices.
        """
        self.add(SampleBatch(to_bytes(images) / 255, labels, self.network))


def without_network(skipped: Skipped) -> Results:
    """The results where there is no feature network."""
    return Results(skipped={each.key: skipped for each in metrics.SAMPLE_METRICS if each.network})
