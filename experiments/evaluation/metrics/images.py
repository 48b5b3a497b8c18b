"""Images of an evaluation and what several metrics compute from them, once a batch."""

from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.evaluation.metrics.feature_cache import FeatureCache
from experiments.evaluation.metrics.features import Features
from experiments.evaluation.metrics.inception import inception_features
from tokenizer.interfaces import TokenizerOutput


def to_unit(images: Tensor) -> Tensor:
    """Images nominally in [-1, 1] as fp32 in [0, 1], clamped."""
    return (images.float() * 0.5 + 0.5).clamp(0, 1)


def bicubic_round_trip(images: Tensor, factor: int) -> Tensor:
    """(B, 3, H, W) in [0, 1] made smaller by `factor` with antialiasing and large again, both bicubic, clamped."""
    height, width = images.shape[-2:]
    small = functional.interpolate(images, size=(height // factor, width // factor), mode="bicubic", antialias=True)
    return functional.interpolate(small, size=(height, width), mode="bicubic").clamp(0, 1)


def structural_similarity(reconstruction: Tensor, images: Tensor, window: int) -> Tensor:
    """SSIM of each image: two (B, 3, H, W) in [0, 1] to (B,)."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    similarity = structural_similarity_index_measure(
        reconstruction, images, sigma=1.5, kernel_size=window, data_range=1.0, reduction="none"
    )
    assert isinstance(similarity, Tensor)
    return similarity


class ReconstructionBatch:
    """Images with their reconstructions.

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
        self.indices = output.quantizer.indices
        self.device = images.device

    def __len__(self) -> int:
        return len(self.images)

    def network(self, name: str) -> nn.Module:
        """A feature network, where the images are."""
        return self.cache.network(name, self.device)

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
        """Inception features of the images, computed once for all subjects."""
        return self.cache.of_images(self.images, "inception", lambda: self._inception(self.real))

    def _inception(self, images: Tensor) -> Features:
        pool, logits = inception_features(self.network("inception"), images)
        return Features(pool, logits=logits)
