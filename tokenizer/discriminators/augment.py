"""Differentiable augmentation: a discriminator sees real and fake images through the same kinds of random changes.

Paper: Zhao et al. 2020, arXiv:2006.10738; ranges as GSQ has them (arXiv:2412.02632, after StyleGAN-T, arXiv:2301.09515). Gradients pass
through to the images. What leaves the picture is filled with zeros, which is black for images in [0, 1].
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TRANSLATION = 1 / 8  # of a side, the furthest shift
CUTOUT = 0.2  # of a side
RESIZE = (0.8, 1.2)  # ratios


class Augmentation(nn.Module):
    """Changes drawn anew at each call from torch's own random numbers, for each image apart but for the ratio of `resize`.

    The order is fixed, whatever the order of the names: the papers' color, translation, cutout, and resize before them.
    """

    def __init__(self, names: list[str]) -> None:
        """Choose the changes.

        Args:
            names: any of resize, color, translation and cutout, each once; none leaves the images as they are.

        Raises:
            ValueError: an unknown or repeated name.
        """
        super().__init__()
        wrong = [name for name in names if name not in CHANGES]
        if wrong:
            raise ValueError(f"discriminator.augmentation has {wrong[0]!r}; expected names out of {', '.join(CHANGES)}")
        if len(set(names)) < len(names):
            raise ValueError(f"discriminator.augmentation is {', '.join(names)}; expected each name once")
        self.names = [name for name in CHANGES if name in names]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to the same shape; color may leave the range."""
        for name in self.names:
            images = CHANGES[name](images)
        return images


def resize(images: Tensor) -> Tensor:
    """All images larger or smaller by one ratio in [0.8, 1.2], bilinear; then cut in the middle, or framed in zeros."""
    ratio = float(torch.empty((), device="cpu").uniform_(*RESIZE))  # a size is a number of the host; this one never was on the device
    sides = images.shape[-2:]
    resized = F.interpolate(images, size=[int(ratio * side) for side in sides], mode="bilinear")
    frame = [side - own for side, own in zip(sides, resized.shape[-2:], strict=True)]  # negative where there is something to cut
    rows, columns = [(missing // 2, missing - missing // 2) for missing in frame]
    return F.pad(resized, [*columns, *rows])


def color(images: Tensor) -> Tensor:
    """Brightness + U(-0.5, 0.5); saturation x U(0, 2) about the channels' mean; contrast x U(0.5, 1.5) about the image's mean."""
    images = images + _uniform(images, -0.5, 0.5)
    gray = images.mean(1, keepdim=True)
    images = gray + (images - gray) * _uniform(images, 0.0, 2.0)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * _uniform(images, 0.5, 1.5)


def translation(images: Tensor) -> Tensor:
    """Shifted by up to an eighth of the side, both ways along both axes, by whole pixels."""
    height, width = images.shape[-2:]
    furthest = [_share(side, TRANSLATION) for side in (height, width)]
    top, left = (torch.randint(-limit, limit + 1, (len(images),), device=images.device) for limit in furthest)
    return window(images, top, left, height, width)


def cutout(images: Tensor) -> Tensor:
    """A rectangle of a fifth of each side is zero; its middle lies anywhere in the image, so that a part of it may lie outside."""
    inside = []
    for axis in (2, 3):
        side = images.shape[axis]
        length = _share(side, CUTOUT)
        first = torch.randint(-(length // 2), side - (length + 1) // 2 + 1, (len(images), 1), device=images.device)
        place = torch.arange(side, device=images.device)
        inside.append((place >= first) & (place < first + length))
    rows, columns = inside
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def window(images: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """What is seen of each image through a window, zeros outside of the image.

    Args:
        images: (B, C, H, W).
        top: (B,) row of the window's first row, may be negative.
        left: (B,) column of its first column, may be negative.
        height: of the window.
        width: of the window.

    Returns:
        (B, C, height, width).
    """
    for axis, (first, length) in enumerate(((top, height), (left, width)), start=2):
        side = images.shape[axis]
        place = first[:, None] + torch.arange(length, device=images.device)
        broadcast = (len(images), 1, length, 1) if axis == 2 else (len(images), 1, 1, length)
        shape = [*images.shape[:axis], length, *images.shape[axis + 1 :]]
        seen = images.gather(axis, place.clamp(0, side - 1).view(broadcast).expand(shape))
        images = seen.masked_fill(((place < 0) | (place >= side)).view(broadcast), 0)
    return images


def _share(side: int, share: float) -> int:
    """Pixels that are a share of a side, halves upwards."""
    return int(side * share + 0.5)


def _uniform(images: Tensor, low: float, high: float) -> Tensor:
    """(B, 1, 1, 1) numbers, one an image."""
    return torch.empty(len(images), 1, 1, 1, dtype=images.dtype, device=images.device).uniform_(low, high)


CHANGES = {"resize": resize, "color": color, "translation": translation, "cutout": cutout}
"""By name, in the order in which they are made."""
