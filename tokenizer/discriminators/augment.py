"""Differentiable augmentation of a discriminator's real and fake images.

Paper: Zhao et al. 2020, arXiv:2006.10738; ranges as in GSQ (arXiv:2412.02632, after StyleGAN-T, arXiv:2301.09515). Gradients pass through
to the images. Pixels from outside of the image are zero, which is black for images in [0, 1].
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TRANSLATION = 1 / 8  # largest shift, as a fraction of the side
CUTOUT = 0.2  # fraction of the side
RESIZE = (0.8, 1.2)  # range of ratios


class Augmentation(nn.Module):
    """Random changes from torch's global random numbers, independent for each call and image, except for the ratio of `resize`.

    The order is that of the papers, whatever the order of the names: resize, color, translation, cutout.

    Args:
        names: distinct names out of resize, color, translation and cutout; none leaves the images unchanged.

    Raises:
        ValueError: an unknown or repeated name.
    """

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        unknown = [name for name in names if name not in CHANGES]
        if unknown:
            raise ValueError(f"discriminator.augmentation has {unknown[0]!r}; expected names out of {', '.join(CHANGES)}")
        if len(set(names)) < len(names):
            raise ValueError(f"discriminator.augmentation is {', '.join(names)}; expected each name once")
        self.names = [name for name in CHANGES if name in names]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to the same shape; color may exceed the range."""
        for name in self.names:
            images = CHANGES[name](images)
        return images


def resize(images: Tensor) -> Tensor:
    """Resize all images bilinearly by one ratio in [0.8, 1.2], then crop the center or pad with zeros."""
    ratio = float(torch.empty((), device="cpu").uniform_(*RESIZE))  # drawn on the host, which needs the size
    sides = images.shape[-2:]
    resized = F.interpolate(images, size=[int(ratio * side) for side in sides], mode="bilinear")
    padding = [side - new_side for side, new_side in zip(sides, resized.shape[-2:], strict=True)]  # negative for a crop
    rows, columns = [(total // 2, total - total // 2) for total in padding]
    return F.pad(resized, [*columns, *rows])


def color(images: Tensor) -> Tensor:
    """Brightness + U(-0.5, 0.5); saturation x U(0, 2) about the channels' mean; contrast x U(0.5, 1.5) about the image's mean."""
    images = images + _uniform(images, -0.5, 0.5)
    gray = images.mean(1, keepdim=True)
    images = gray + (images - gray) * _uniform(images, 0.0, 2.0)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * _uniform(images, 0.5, 1.5)


def translation(images: Tensor) -> Tensor:
    """Shift each image along both axes by up to an eighth of the side in whole pixels."""
    height, width = images.shape[-2:]
    largest = [_pixels(side, TRANSLATION) for side in (height, width)]
    top, left = (torch.randint(-limit, limit + 1, (len(images),), device=images.device) for limit in largest)
    return crop(images, top, left, height, width)


def cutout(images: Tensor) -> Tensor:
    """Set a rectangle of a fifth of each side to zero; its center is anywhere in the image, so that it may extend outside."""
    inside = []
    for axis in (2, 3):
        side = images.shape[axis]
        length = _pixels(side, CUTOUT)
        first = torch.randint(-(length // 2), side - (length + 1) // 2 + 1, (len(images), 1), device=images.device)
        positions = torch.arange(side, device=images.device)
        inside.append((positions >= first) & (positions < first + length))
    rows, columns = inside
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def crop(images: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Crop each image at its own position, with zeros outside of the image.

    Args:
        images: (B, C, H, W).
        top: (B,), first row; may be negative.
        left: (B,), first column; may be negative.
        height: height of the crop.
        width: width of the crop.

    Returns:
        (B, C, height, width).
    """
    for axis, (first, length) in enumerate(((top, height), (left, width)), start=2):
        side = images.shape[axis]
        positions = first[:, None] + torch.arange(length, device=images.device)
        broadcast = (len(images), 1, length, 1) if axis == 2 else (len(images), 1, 1, length)
        shape = [*images.shape[:axis], length, *images.shape[axis + 1 :]]
        cropped = images.gather(axis, positions.clamp(0, side - 1).view(broadcast).expand(shape))
        images = cropped.masked_fill(((positions < 0) | (positions >= side)).view(broadcast), 0)
    return images


def _pixels(side: int, fraction: float) -> int:
    """Fraction of a side in pixels, rounded half up."""
    return int(side * fraction + 0.5)


def _uniform(images: Tensor, low: float, high: float) -> Tensor:
    """Random numbers (B, 1, 1, 1), one per image."""
    return torch.empty(len(images), 1, 1, 1, dtype=images.dtype, device=images.device).uniform_(low, high)


# In the order of application.
CHANGES = {"resize": resize, "color": color, "translation": translation, "cutout": cutout}
