"""All numbers of samples, each with its card."""

from typing import Any

from torch import Tensor

from experiments.evaluation import metrics
from experiments.evaluation.metrics.digits_classifier import DigitsClassifier
from experiments.evaluation.metrics.features import FeatureExtractor, Features
from experiments.evaluation.metrics.metric import Metric
from experiments.evaluation.metrics.metric_set import Context, MetricSet
from experiments.evaluation.metrics.reference import ReferenceStatistics, identity
from experiments.evaluation.results import Results, Skipped

STORED = 50_000  # features of samples for precision and recall, as many as the papers generate: 410 MB in fp32


class SampleContext(Context):
    """A generator and the real images that its samples are compared with.

    Args:
        network: feature network; the reason where there is none.
        reference: of real images, by the same network; None leaves the inception score alone.
        classifier: of digits, None for other data.
        image_size: side of the images in pixels.
        card_fields: see `Context`.
        stored_features: features stored for precision and recall, a random choice from more samples.

    Raises:
        ValueError: the reference was made with another network.
    """

    def __init__(
        self,
        network: FeatureExtractor | Skipped,
        reference: ReferenceStatistics | None,
        classifier: DigitsClassifier | None,
        image_size: int,
        card_fields: dict[str, Any],
        stored_features: int = STORED,
    ) -> None:
        self.missing = network if isinstance(network, Skipped) else None
        if reference is not None and not isinstance(network, Skipped) and reference.network != identity(network):
            raise ValueError(f"the reference was made with {reference.network}, expected {identity(network)}")
        super().__init__(image_size, {"reference": "none" if reference is None else reference.description, **card_fields}, "generated")
        self.network, self.reference, self.classifier, self.stored_features = network, reference, classifier, stored_features

    @property
    def classes(self) -> int:
        """Of the network, 0 where it is no classifier."""
        return 0 if isinstance(self.network, Skipped) else self.network.classes

    def why_no_network(self, metric: type[Metric]) -> Skipped | None:
        """Why there is no feature network."""
        return self.missing

    def network_fields(self, metric: Metric) -> dict[str, Any]:
        """Fields of the card about library and network."""
        if metric.network is None or isinstance(self.network, Skipped):
            return super().network_fields(metric)
        network = self.network
        return {"backend": network.backend, "network": network.name, "weights": network.weights, "resize": network.resize}


class SampleBatch:
    """Samples with the classes that were asked for.

    Args:
        images: (B, 3, H, W) in [0, 1].
        labels: (B,).
        context: network for the features.
    """

    def __init__(self, images: Tensor, labels: Tensor, context: SampleContext) -> None:
        self.images, self.labels = images, labels
        self.network = None if isinstance(context.network, Skipped) else context.network
        self.device = images.device if self.network is None else self.network.device
        self._features: Features | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def features(self) -> Features:
        """Features of the samples."""
        if self._features is None:
            assert self.network is not None
            self._features = self.network(self.images)
        return self._features


class SampleMetrics(MetricSet):
    """Running metrics of samples. For one process.

    Args:
        context: generator and real images.
    """

    def __init__(self, context: SampleContext) -> None:
        super().__init__(metrics.SAMPLE_METRICS, context)
        self.samples = context

    def update(self, images: Tensor, labels: Tensor) -> None:
        """Add (B, 3, H, W) images in [0, 1] with the (B,) labels that were asked for; B may be 0.

        They are rounded to 8 bits, as in the image files that published numbers are computed from: with few or small images a Fréchet
        distance notices.
        """
        self.add(SampleBatch((images * 255).round() / 255, labels, self.samples))


def without_network(skipped: Skipped) -> Results:
    """The results where there is no feature network."""
    return Results(skipped={each.key: skipped for each in metrics.SAMPLE_METRICS if each.network})
