"""How far reconstructions are from their images: PSNR, SSIM, L1, LPIPS, and bicubic resampling as a baseline.

Conventions of Wang et al. 2024, arXiv:2412.02632: images clamped to [0, 1]; PSNR of the squared error of the whole set; SSIM with a
Gaussian window of 11 x 11, sigma 1.5, range 1; LPIPS 0.1 with AlexNet on images in [-1, 1].
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.evaluation.metrics.sums import Sums

SSIM_WINDOW = 11
SMALLEST_SIDE = {"ssim": SSIM_WINDOW, "lpips": 31}  # below 31 pixels AlexNet's second pooling has nothing to pool
LARGEST_IMAGE_PSNR = 100.0


def to_unit(images: Tensor) -> Tensor:
    """Images nominally in [-1, 1] as fp32 in [0, 1], clamped."""
    return (images.float() * 0.5 + 0.5).clamp(0, 1)


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1]: infinite without error, NaN for an error that is NaN."""
    return math.inf if mean_squared_error == 0 else -10 * math.log10(mean_squared_error)


def bicubic_round_trip(images: Tensor, factor: int) -> Tensor:
    """(B, 3, H, W) in [0, 1] made smaller by `factor` with antialiasing and large again, both bicubic, clamped."""
    height, width = images.shape[-2:]
    small = functional.interpolate(images, size=(height // factor, width // factor), mode="bicubic", antialias=True)
    return functional.interpolate(small, size=(height, width), mode="bicubic").clamp(0, 1)


def structural_similarity(reconstruction: Tensor, images: Tensor) -> Tensor:
    """SSIM of each image: two (B, 3, H, W) in [0, 1] to (B,)."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    similarity = structural_similarity_index_measure(
        reconstruction, images, sigma=1.5, kernel_size=SSIM_WINDOW, data_range=1.0, reduction="none"
    )
    assert isinstance(similarity, Tensor)
    return similarity


class ReconstructionErrors:
    """Running errors of reconstructions.

    Args:
        metrics: those to compute, of psnr, psnr_image_mean, l1, psnr_bicubic, ssim, lpips.
        factor: how much smaller the bicubic baseline makes an image.
    """

    def __init__(self, metrics: set[str], factor: int) -> None:
        self.metrics = metrics
        self.factor = factor
        self.sums = Sums(["images", "values", "squared_error", "l1", "psnr_image_mean", "psnr_bicubic", "ssim", "lpips"])

    def reset(self) -> None:
        """Forget all."""
        self.sums.reset()

    def to(self, device: torch.device | str) -> None:
        """Sum on another device."""
        self.sums.to(device)

    def update(self, images: Tensor, reconstruction: Tensor, lpips: nn.Module | None) -> None:
        """Add a batch: two (B, 3, H, W), nominally in [-1, 1]; `lpips` with AlexNet if that metric is computed."""
        real, fake = to_unit(images), to_unit(reconstruction)
        self.sums.add("images", len(real))
        self.sums.add("values", real.numel())
        error = fake - real
        squares = error.square().flatten(1).sum(1, dtype=torch.float64)
        per_image = squares / error[0].numel()
        self.sums.add("squared_error", squares.sum())
        self.sums.add("l1", error.abs().sum(dtype=torch.float64))
        # A perfect image counts as 100 dB: one of them would make the mean infinite.
        self.sums.add("psnr_image_mean", (-10 * per_image.log10()).clamp(max=LARGEST_IMAGE_PSNR).sum())
        if "psnr_bicubic" in self.metrics:
            self.sums.add("psnr_bicubic", (bicubic_round_trip(real, self.factor) - real).square().sum(dtype=torch.float64))
        if "ssim" in self.metrics:
            self.sums.add("ssim", structural_similarity(fake, real).double().sum())
        if "lpips" in self.metrics:
            assert lpips is not None
            self.sums.add("lpips", lpips(fake * 2 - 1, real * 2 - 1).double() * len(real))

    def compute(self) -> dict[str, float]:
        """Each of `metrics` over the images of all ranks."""
        sums = self.sums.read()
        images, values = sums["images"], sums["values"]
        results = {
            "psnr": psnr(sums["squared_error"] / values),
            "psnr_image_mean": sums["psnr_image_mean"] / images,
            "l1": sums["l1"] / values,
            "psnr_bicubic": psnr(sums["psnr_bicubic"] / values),
            "ssim": sums["ssim"] / images,
            "lpips": sums["lpips"] / images,
        }
        return {name: value for name, value in results.items() if name in self.metrics}
