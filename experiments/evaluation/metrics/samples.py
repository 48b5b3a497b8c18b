"""All numbers of samples, each with its card."""

from collections.abc import Mapping
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
    """Samples (B, 3, H, W) in [0, 1] with the (B,) labels that were asked for, and their features.

    Args:
        networks: feature networks by name; the reason where there is none.
    """

    def __init__(self, images: Tensor, labels: Tensor, networks: Mapping[str, FeatureExtractor | Skipped]) -> None:
        self.images, self.labels, self.networks = images, labels, networks
        devices = [network.device for network in networks.values() if not isinstance(network, Skipped)]
        self.device = devices[0] if devices else images.device
        self.computed: dict[str, Features] = {}

    def __len__(self) -> int:
        return len(self.images)

    def features_by(self, name: str) -> Features:
        """Features of the samples by one of the networks."""
        if name not in self.computed:
            network = self.networks[name]
            assert not isinstance(network, Skipped)
            self.computed[name] = network(self.images)
        return self.computed[name]

    @property
    def features(self) -> Features:
        """Inception features of the samples."""
        return self.features_by("inception")


class SampleMetrics(MetricSet):
    """Running metrics of samples. For one process.

    Args:
        networks: feature networks by the name of their weights; the reason where there is none.
        references: statistics of real images by the same networks, by the same names; the reason where there are none.
        classifier: of digits, None for other data.
        image_size: side of the images in pixels.
        card_fields: see `MetricSet`.
        stored_features: features stored for precision and recall, a random choice from more samples.

    Raises:
        ValueError: a reference was made with another network.
    """

    verb = "generated"

    def __init__(
        self,
        networks: Mapping[str, FeatureExtractor | Skipped],
        references: Mapping[str, ReferenceStatistics | Skipped],
        classifier: DigitsClassifier | None,
        image_size: int,
        card_fields: dict[str, Any],
        stored_features: int = STORED,
    ) -> None:
        for name, network in networks.items():
            reference = references.get(name)
            if not isinstance(reference, ReferenceStatistics) or isinstance(network, Skipped):
                continue
            if reference.network != identity(network):
                raise ValueError(f"the reference was made with {reference.network}, expected {identity(network)}")
        self.networks, self.references, self.classifier, self.stored_features = networks, references, classifier, stored_features
        inception = networks.get("inception")
        self.classes = 0 if inception is None or isinstance(inception, Skipped) else inception.classes
        super().__init__(metrics.SAMPLE_METRICS, image_size, {"reference": "none", **card_fields})

    def why_no_network(self, metric: type[Metric]) -> Skipped | None:
        assert metric.network is not None
        network = self.networks.get(metric.network, Skipped(f"the network {metric.network} was not asked for", metric.network))
        return network if isinstance(network, Skipped) else None

    def network_fields(self, metric: Metric) -> dict[str, Any]:
        network, reference = self.networks.get(metric.network or ""), self.references.get(metric.network or "")
        if network is None or isinstance(network, Skipped):
            return super().network_fields(metric)
        fields = {"backend": network.backend, "network": network.name, "weights": network.weights, "resize": network.resize}
        return fields | ({"reference": reference.description} if isinstance(reference, ReferenceStatistics) else {})

    def update(self, images: Tensor, labels: Tensor) -> None:
        """Add (B, 3, H, W) images in [0, 1] with the (B,) labels that were asked for; B may be 0.

        They are rounded to 8 bits, as in the image files that published numbers are computed from: with few or small images a Fréchet
        distance notices.
        """
        self.add(SampleBatch(to_bytes(images) / 255, labels, self.networks))


def without_networks(skipped: Mapping[str, Skipped]) -> Results:
    """The results where no feature network can be used, with the reason for each by name."""
    return Results(skipped={each.key: skipped[each.network] for each in metrics.SAMPLE_METRICS if each.network})
