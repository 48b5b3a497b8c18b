"""Errors of reconstructions: PSNR, L1, SSIM, LPIPS, and bicubic resampling as a baseline. Imports no torch.

Conventions of Wang et al. 2024, arXiv:2412.02632: images clamped to [0, 1]; PSNR from the squared error of the whole set; LPIPS 0.1 with
AlexNet on images in [-1, 1]. SSIM is that of Wang et al. 2004 (doi:10.1109/TIP.2003.819861), see `structural_similarity`.
"""

import math
from typing import TYPE_CHECKING, Any

from experiments.evaluation.metrics.metric import ImageMean

if TYPE_CHECKING:
    from torch import Tensor, nn

    from experiments.evaluation.metrics.tokenizer import ReconstructionBatch

SSIM_WINDOW = 11
LARGEST_IMAGE_PSNR = 100.0


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1]: infinite without error, NaN for an error that is NaN."""
    return math.inf if mean_squared_error == 0 else -10 * math.log10(mean_squared_error)


def bicubic_round_trip(images: "Tensor", factor: int) -> "Tensor":
    """(B, 3, H, W) in [0, 1] made smaller by `factor` with antialiasing and large again, both bicubic, clamped."""
    from torch.nn.functional import interpolate

    height, width = images.shape[-2:]
    small = interpolate(images, size=(height // factor, width // factor), mode="bicubic", antialias=True)
    return interpolate(small, size=(height, width), mode="bicubic").clamp(0, 1)


def structural_similarity(reconstruction: "Tensor", images: "Tensor", window: int) -> "Tensor":
    """SSIM of each image: two (B, 3, H, W) in [0, 1] to (B,).

    Means, population variances and the covariance under a Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, range 1, averaged over
    channels and over all windows that are inside the image, as scikit-image computes it with `gaussian_weights=True` and
    `use_sample_covariance=False`. The mean that torchmetrics returns from 1.4.2 on has windows over reflected borders too.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    settings: dict[str, Any] = {"sigma": 1.5, "kernel_size": window, "data_range": 1.0, "reduction": "none", "return_full_image": True}
    _, similarity = structural_similarity_index_measure(reconstruction.double(), images.double(), **settings)
    border = window // 2
    inside: Tensor = similarity[..., border:-border, border:-border]
    return inside.mean((1, 2, 3)).clamp(-1, 1)  # beyond by rounding alone


class ValueMean(ImageMean):
    """A mean over all values of all images."""

    def count_of(self, batch: "ReconstructionBatch") -> int:
        return batch.real.numel()


class PSNR(ValueMean):
    """PSNR from the squared error of the whole set."""

    key, label, unit, better = "psnr", "PSNR", "dB", "higher"
    aggregate = "total squared error"
    in_terminal = True

    def sum_of(self, batch: "ReconstructionBatch") -> "Tensor":
        return batch.squared_errors.sum()

    def compute(self) -> float:
        return psnr(super().compute())


class ImagePSNR(ImageMean):
    """Mean of the PSNR of each image."""

    key, label, unit, better = "psnr_image_mean", "image PSNR", "dB", "higher"

    def sum_of(self, batch: "ReconstructionBatch") -> "Tensor":
        errors = batch.squared_errors / batch.real[0].numel()
        # A perfect image counts as 100 dB: one of them would make the mean infinite.
        return (-10 * errors.log10()).clamp(max=LARGEST_IMAGE_PSNR).sum()


class L1(ValueMean):
    """Mean absolute error."""

    key, label, better = "l1", "L1", "lower"
    aggregate = "total absolute error"

    def sum_of(self, batch: "ReconstructionBatch") -> "Tensor":
        import torch

        return batch.errors.abs().sum(dtype=torch.float64)


class BicubicPSNR(PSNR):
    """PSNR of images made smaller by the tokenizer's factor and large again."""

    key, label = "psnr_bicubic", "bicubic PSNR"
    of_images = True

    @classmethod
    def side_needed(cls, context: Any) -> int:
        return int(context.downsample)

    def sum_of(self, batch: "ReconstructionBatch") -> "Tensor":
        import torch

        return (bicubic_round_trip(batch.real, self.context.downsample) - batch.real).square().sum(dtype=torch.float64)

    def card(self, n: int) -> dict[str, Any]:
        return {**super().card(n), "resize": f"bicubic down and up by {self.context.downsample}"}


class SSIM(ImageMean):
    """Structural similarity."""

    key, label, better = "ssim", "SSIM", "higher"
    backend = "torchmetrics"
    aggregate = f"mean over channels and {SSIM_WINDOW} x {SSIM_WINDOW} Gaussian windows inside the image, then over images"
    dtype = "float64"
    smallest_side = SSIM_WINDOW
    in_terminal = True

    def sum_of(self, batch: "ReconstructionBatch") -> "Tensor":
        return structural_similarity(batch.fake, batch.real, SSIM_WINDOW).double().sum()


class LPIPS(ImageMean):
    """Learned perceptual distance."""

    key, label, better = "lpips", "LPIPS", "lower"
    backend, network = "lpips", "alexnet"
    smallest_side = 31  # below, AlexNet's second pooling has no input
    in_terminal = True

    @classmethod
    def load_network(cls) -> "nn.Module":
        from tokenizer.losses.perceptual import LPIPSLoss

        return LPIPSLoss("alexnet", "symmetric")

    def sum_of(self, batch: "ReconstructionBatch") -> "Tensor":
        distance: Tensor = batch.network("alexnet")(batch.fake * 2 - 1, batch.real * 2 - 1)
        return distance.double() * len(batch)
