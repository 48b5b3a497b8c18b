"""All numbers of an image tokenizer over one evaluation set, each with its card."""

from typing import Any

from torch import Tensor

from experiments.evaluation import metrics
from experiments.evaluation.metrics.codebook import CodebookCounts
from experiments.evaluation.metrics.feature_cache import FeatureCache
from experiments.evaluation.metrics.images import ReconstructionBatch
from experiments.evaluation.metrics.inception_metric import CLASSES
from experiments.evaluation.metrics.metric import Metric
from experiments.evaluation.metrics.metric_set import Context, MetricSet
from experiments.evaluation.results import Skipped
from tokenizer.interfaces import Quantizer, TokenizerOutput

WEIGHTS = ("ema", "raw")


class ReconstructionContext(Context):
    """A tokenizer and the images that it reconstructs.

    Args:
        quantizer: its sizes are read.
        downsample: pixels per cell along one side.
        image_size: side of the images in pixels.
        card_fields: see `Context`.
        cache: feature networks.
    """

    classes = CLASSES

    def __init__(self, quantizer: Quantizer, downsample: int, image_size: int, card_fields: dict[str, Any], cache: FeatureCache) -> None:
        super().__init__(image_size, card_fields, "evaluated")
        self.quantizer, self.downsample, self.cache = quantizer, downsample, cache

    def why_no_network(self, metric: type[Metric]) -> Skipped | None:
        """Why the feature network of a metric cannot be used."""
        return self.cache.load(metric)

    def network_fields(self, metric: Metric) -> dict[str, Any]:
        """Fields of the card about library and network."""
        weights = None if metric.network is None else self.cache.files[metric.network]
        return {**super().network_fields(metric), "weights": weights}


class TokenizerMetrics(MetricSet):
    """Running metrics of one tokenizer.

    Args:
        quantizer: its sizes are read.
        downsample: pixels per cell along one side, the factor of the bicubic baseline.
        image_size: side of the images in pixels.
        subject: ema or raw, the weights that made the reconstructions.
        seed: run seed, for the cards.
        transform: how the images were cropped, for the cards.
        reference: which images they are, for the cards.
        losses: losses that trained the tokenizer, for the cards.
        cache: of another subject that is evaluated on the same images: its networks and its features of the images serve both, and
            metrics of the images alone are computed there only.

    Raises:
        ValueError: an unknown subject.
    """

    def __init__(
        self,
        quantizer: Quantizer,
        downsample: int,
        image_size: int,
        subject: str,
        seed: int,
        transform: str,
        reference: str,
        losses: str | None = None,
        cache: FeatureCache | None = None,
    ) -> None:
        if subject not in WEIGHTS:
            raise ValueError(f"subject is {subject!r}, expected one of {', '.join(WEIGHTS)}")
        self.cache = FeatureCache() if cache is None else cache
        fields = {"subject": subject, "seed": seed, "transform": transform, "reference": reference, "losses": losses}
        classes = [each for each in metrics.METRICS if cache is None or not each.of_images]
        super().__init__(classes, ReconstructionContext(quantizer, downsample, image_size, fields, self.cache))

    def reset(self) -> None:
        """Forget all images; networks stay loaded."""
        super().reset()
        self.cache.reset()

    def update(self, images: Tensor, output: TokenizerOutput) -> None:
        """Add a batch.

        Args:
            images: (B, 3, H, W) in [-1, 1]; B may be 0.
            output: of the tokenizer for these images.

        Raises:
            ValueError: the reconstruction has another shape.
        """
        self.add(ReconstructionBatch(images, output, self.cache))

    @property
    def counts(self) -> Tensor | None:
        """(G, V) int64, how often each code of each group was chosen, over all ranks; None where codes are not counted.

        Known after `compute`.
        """
        counts = self.shared.get(CodebookCounts)
        return counts.joined["counts"].clone() if counts is not None and counts.joined else None
