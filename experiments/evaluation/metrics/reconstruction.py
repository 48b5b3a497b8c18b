"""Errors of reconstructions: PSNR, L1, SSIM, LPIPS, and bicubic resampling as a baseline. Imports no torch.

Conventions of Wang et al. 2024, arXiv:2412.02632: images clamped to [0, 1]; PSNR from the squared error of the whole set; SSIM with a
Gaussian window of 11 x 11, sigma 1.5, range 1; LPIPS 0.1 with AlexNet on images in [-1, 1].
"""

import math
from typing import TYPE_CHECKING, Any

from experiments.evaluation.metrics.metric import ImageMean, Metric

if TYPE_CHECKING:
    from torch import Tensor, nn

    from experiments.evaluation.metrics.images import ReconstructionBatch

SSIM_WINDOW = 11
LARGEST_IMAGE_PSNR = 100.0


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1]: infinite without error, NaN for an error that is NaN."""
    return math.inf if mean_squared_error == 0 else -10 * math.log10(mean_squared_error)


class ValueMean(Metric):
    """A mean over all values of all images: a subclass defines `sum_of`."""

    totals = ("sum", "values")

    def sum_of(self, batch: "ReconstructionBatch") -> "Tensor":
        raise NotImplementedError

    def update(self, batch: "ReconstructionBatch") -> None:
        self.add("sum", self.sum_of(batch))
        self.add("values", batch.real.numel())

    def compute(self) -> float:
        return self.total("sum") / self.total("values")


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

        from experiments.evaluation.metrics.images import bicubic_round_trip

        return (bicubic_round_trip(batch.real, self.context.downsample) - batch.real).square().sum(dtype=torch.float64)

    def card(self, n: int) -> dict[str, Any]:
        return {**super().card(n), "resize": f"bicubic down and up by {self.context.downsample}"}


class SSIM(ImageMean):
    """Structural similarity."""

    key, label, better = "ssim", "SSIM", "higher"
    backend = "torchmetrics"
    smallest_side = SSIM_WINDOW
    in_terminal = True

    def sum_of(self, batch: "ReconstructionBatch") -> "Tensor":
        from experiments.evaluation.metrics.images import structural_similarity

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
