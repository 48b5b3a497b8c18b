"""All numbers of an image tokenizer over one evaluation set, each with its card."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from experiments.evaluation import metrics
from experiments.evaluation.metrics.codebook import CodebookCounts
from experiments.evaluation.metrics.inception import Features, inception_features, to_unit
from experiments.evaluation.metrics.inception_metric import CLASSES
from experiments.evaluation.metrics.metric import Metric
from experiments.evaluation.metrics.metric_set import MetricSet
from experiments.evaluation.results import Skipped
from tokenizer.interfaces import Quantizer, TokenizerOutput
from tokenizer.weights import MissingWeightsError, find_weights, sha256

WEIGHTS = ("ema", "raw")
Value = TypeVar("Value")


class FeatureCache:
    """Feature networks, each loaded once, and features of the last batch of images, for subjects evaluated on the same images."""

    def __init__(self) -> None:
        self.networks: dict[str, nn.Module] = {}
        self.files: dict[str, str] = {}  # file name and first digits of the SHA-256, for cards
        self.failures: dict[str, Skipped] = {}
        self.reset()

    def reset(self) -> None:
        """Forget the images."""
        self.images: Tensor | None = None
        self.features: dict[str, Any] = {}  # by network

    def load(self, metric: type[Metric]) -> Skipped | None:
        """Load the network of a metric; the reason if that fails."""
        name = metric.network
        assert name is not None
        if name not in self.networks and name not in self.failures:
            try:
                file = find_weights(name)
                self.networks[name] = metric.load_network()
                self.files[name] = f"{file.name} {sha256(file)[:12]}"
            except MissingWeightsError as error:
                self.failures[name] = Skipped(str(error), error.name)
            except ValueError as error:
                self.failures[name] = Skipped(str(error))
        return self.failures.get(name)

    def features_of(self, images: Tensor, network: str, compute: Callable[[], Value]) -> Value:
        """Features of a batch of images by a network, the same object for all subjects; computed for the first subject that asks."""
        if images is not self.images:
            self.images, self.features = images, {}
        if network not in self.features:
            self.features[network] = compute()
        value: Value = self.features[network]
        return value


class ReconstructionBatch:
    """Images with their reconstructions, and what several metrics compute from them, once a batch.

    Args:
        images: (B, 3, H, W), nominally in [-1, 1].
        output: of the tokenizer for these images.
        cache: networks, and features of the images.

    Raises:
        ValueError: the reconstruction has another shape.
    """

    def __init__(self, images: Tensor, output: TokenizerOutput, cache: FeatureCache) -> None:
        self.images, self.reconstruction, self.cache = images, output.decoder.reconstruction, cache
        if self.reconstruction.shape != images.shape:
            shapes = tuple(self.reconstruction.shape), tuple(images.shape)
            raise ValueError(f"the reconstruction has the shape {shapes[0]}, the images {shapes[1]}")
        self.indices, self.layout = output.quantizer.indices, output.encoder.layout
        self.device = images.device

    def __len__(self) -> int:
        return len(self.images)

    def network(self, name: str) -> nn.Module:
        """A feature network, where the images are."""
        return self.cache.networks[name].to(self.device)

    @cached_property
    def real(self) -> Tensor:
        """(B, 3, H, W) images in [0, 1]."""
        return to_unit(self.images)

    @cached_property
    def fake(self) -> Tensor:
        """(B, 3, H, W) reconstructions in [0, 1]."""
        return to_unit(self.reconstruction)

    @cached_property
    def errors(self) -> Tensor:
        """(B, 3, H, W)."""
        return self.fake - self.real

    @cached_property
    def squared_errors(self) -> Tensor:
        """(B,) float64 sums over the values of each image."""
        return self.errors.square().flatten(1).sum(1, dtype=torch.float64)

    @cached_property
    def features(self) -> Features:
        """Inception features of the reconstructions."""
        return self._inception(self.fake)

    @property
    def real_features(self) -> Features:
        """Inception features of the images."""
        return self.cache.features_of(self.images, "inception", lambda: self._inception(self.real))

    def _inception(self, images: Tensor) -> Features:
        pool, logits = inception_features(self.network("inception"), images)
        return Features(pool, logits=logits)


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
        num_tokens: number of tokens that the encoder is asked to keep, for the cards; None for its own number.

    Raises:
        ValueError: an unknown subject.
    """

    classes = CLASSES

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
        num_tokens: int | None = None,
    ) -> None:
        if subject not in WEIGHTS:
            raise ValueError(f"subject is {subject!r}, expected one of {', '.join(WEIGHTS)}")
        self.quantizer, self.downsample = quantizer, downsample
        self.cache = FeatureCache() if cache is None else cache
        fields = {"subject": subject, "seed": seed, "transform": transform, "reference": reference, "losses": losses}
        fields["num_tokens"] = num_tokens
        super().__init__([each for each in metrics.METRICS if cache is None or not each.of_images], image_size, fields)

    def why_no_network(self, metric: type[Metric]) -> Skipped | None:
        return self.cache.load(metric)

    def network_fields(self, metric: Metric) -> dict[str, Any]:
        weights = None if metric.network is None else self.cache.files[metric.network]
        return {**super().network_fields(metric), "weights": weights}

    def reset(self) -> None:
        super().reset()
        self.cache.reset()

    def update(self, images: Tensor, output: TokenizerOutput) -> None:
        """Add images (B, 3, H, W) in [-1, 1] with the output for them; B may be 0.

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
