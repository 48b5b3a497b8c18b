"""Fréchet distances of features of EfficientNet-Lite0, an ImageNet network whose weights are a package. Imports no torch.

Papers: Heusel et al. 2017, arXiv:1706.08500 (the distance); Tan and Le 2019, arXiv:1905.11946 (EfficientNet).
Deviation: another network than Inception, so the numbers compare with one another alone and are no FID. Images are rounded to 8 bits and
resized with antialiasing to fewer pixels than the 224 that the network was trained at: the distances of blurred, noisy and compressed
photographs of 32 pixels have nearly the same order at 64, 96, 128 and 224 pixels, and 96 take a seventh of the time of 224.
"""

from typing import TYPE_CHECKING, Any

from experiments.evaluation.cards import library
from experiments.evaluation.metrics.frechet import ReconstructionDistance, SampleDistance
from experiments.evaluation.metrics.metric import Metric

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from experiments.evaluation.metrics.inception import FeatureExtractor, Features

NETWORK, BACKEND = "lite0", "timm"
FEATURES = 1280
SIZE = 96  # pixels
RESIZE = f"bicubic with antialiasing to {SIZE}, of images rounded to 8 bits"
AGGREGATE = f"covariances of all images, {FEATURES} features"
BIASED = ", singular: no more images than features; biased, comparable at the same n alone"
IMAGES_PER_PASS = 32  # larger and smaller parts take longer on a CPU


def load_lite0() -> "nn.Module":
    """The network, frozen and on the CPU.

    Raises:
        MissingWeightsError: its package is not installed.
        ValueError: its file is damaged or of another network.
    """
    from tokenizer.layers.feature_network import FeatureNetwork

    return FeatureNetwork(NETWORK, None, key="SIZE", without="").requires_grad_(False).eval()


def lite0_features(network: Any, images: "Tensor") -> "Tensor":
    """(B, 3, H, W) in [0, 1] to pooled features (B, 1280), fp32."""
    import torch
    from torch.nn.functional import interpolate

    from experiments.data.transforms import to_bytes
    from tokenizer.layers.precision import full_precision

    with full_precision(images.device):
        pixels = interpolate(to_bytes(images) / 255, size=(SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 1)
        return torch.cat([network.pooled(part) for part in torch.split(pixels, IMAGES_PER_PASS)])


class Lite0:
    """EfficientNet-Lite0 as a `FeatureExtractor`: pooled features alone."""

    name, resize = NETWORK, RESIZE
    width, spatial_width, classes = FEATURES, 0, 0

    def __init__(self, device: "torch.device") -> None:
        from tokenizer.weights import FILES, find_weights, sha256

        self.device = device
        self.network = load_lite0().to(device)
        self.backend = library(BACKEND)
        self.weights = f"{FILES[NETWORK].filename} {sha256(find_weights(NETWORK))[:12]}"

    def __call__(self, images: "Tensor") -> "Features":
        """Features of (B, 3, H, W) in [0, 1]."""
        import torch

        from experiments.evaluation.metrics.inception import Features

        with torch.no_grad():
            return Features(lite0_features(self.network, images.to(self.device).float()))


class Lite0Metric(Metric):
    """A distance of features of EfficientNet-Lite0."""

    key, label = "frechet_lite0", "Fréchet (Lite0)"
    backend, network, resize = BACKEND, NETWORK, RESIZE
    aggregate = AGGREGATE

    @classmethod
    def load_network(cls) -> "nn.Module":
        return load_lite0()

    @classmethod
    def load_extractor(cls, device: "torch.device") -> "FeatureExtractor":
        return Lite0(device)

    def card(self, n: int) -> dict[str, Any]:
        return {**super().card(n), "aggregate": f"{self.aggregate}{BIASED * (n <= FEATURES)}"}


class FrechetLite0(Lite0Metric, ReconstructionDistance):
    """Distance of reconstructions to their images."""

    width = FEATURES

    def features_of(self, batch: Any) -> "tuple[Tensor, Tensor]":
        network = batch.network(NETWORK)
        real = batch.cache.features_of(batch.images, NETWORK, lambda: lite0_features(network, batch.real))
        return real, lite0_features(network, batch.fake)


class SampleFrechetLite0(Lite0Metric, SampleDistance):
    """Distance of samples to real images."""
