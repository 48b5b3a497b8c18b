"""Differentiable augmentation of a discriminator's real and fake images.

Paper: Zhao et al. 2020, arXiv:2006.10738; ranges as in GSQ (arXiv:2412.02632, after StyleGAN-T, arXiv:2301.09515). Gradients pass through
to the images. Pixels from outside of the image are zero, which is black for images in [0, 1].
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TRANSLATION = 1 / 8  # largest shift, as a fraction of the side
CUTOUT = 0.2  # fraction of the side
RESIZE = (0.8, 1.2)  # range of ratios


class Augmentation(nn.Module):
    """Random changes from torch's global random numbers, independent for each call and image, except for the ratio of `resize`.

    The order is that of the papers, whatever the order of the names: resize, color, translation, cutout. The functions of this module apply
    each change with given random numbers.

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
            draw, change = CHANGES[name]
            images = change(images, *draw(images))
        return images


def draw_resize(images: Tensor) -> tuple[float]:
    """One ratio in [0.8, 1.2] for all images, drawn on the host, which needs the size."""
    return (float(torch.empty((), device="cpu").uniform_(*RESIZE)),)


def resize(images: Tensor, ratio: float) -> Tensor:
    """Resize all images bilinearly, then crop the center or pad with zeros; an odd pixel is cut or added at the end."""
    sides = images.shape[-2:]
    resized = F.interpolate(images, size=[int(ratio * side) for side in sides], mode="bilinear")
    padding = [side - new_side for side, new_side in zip(sides, resized.shape[-2:], strict=True)]  # negative for a crop
    rows, columns = [(int(total / 2), total - int(total / 2)) for total in padding]
    return F.pad(resized, [*columns, *rows])


def draw_color(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Brightness in [-0.5, 0.5], saturation in [0, 2] and contrast in [0.5, 1.5] of each image, (B, 1, 1, 1) each."""
    return _uniform(images, -0.5, 0.5), _uniform(images, 0.0, 2.0), _uniform(images, 0.5, 1.5)


def color(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Add the brightness, then scale the saturation about the channels' mean, then the contrast about the image's mean."""
    images = images + brightness
    gray = images.mean(1, keepdim=True)
    images = gray + (images - gray) * saturation
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * contrast


def draw_translation(images: Tensor) -> tuple[Tensor, Tensor]:
    """First row and first column (B,) of each image, up to an eighth of the side away from 0 in whole pixels."""
    largest = [_pixels(side, TRANSLATION) for side in images.shape[-2:]]
    top, left = (torch.randint(-limit, limit + 1, (len(images),), device=images.device) for limit in largest)
    return top, left


def translation(images: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Shift each image so that it begins at its row `top` and its column `left`."""
    height, width = images.shape[-2:]
    return crop(images, top, left, height, width)


def draw_cutout(images: Tensor) -> tuple[Tensor, Tensor]:
    """First row and first column (B,) of the rectangle of each image, whose center is anywhere in the image."""
    lengths = [(side, _pixels(side, CUTOUT)) for side in images.shape[-2:]]
    bounds = [(-(length // 2), side - (length + 1) // 2 + 1) for side, length in lengths]
    top, left = (torch.randint(*bound, (len(images),), device=images.device) for bound in bounds)
    return top, left


def cutout(images: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Set a rectangle of a fifth of each side to zero; it may extend outside of the image."""
    inside = []
    for side, first in zip(images.shape[-2:], (top[:, None], left[:, None]), strict=True):
        positions = torch.arange(side, device=images.device)
        inside.append((positions >= first) & (positions < first + _pixels(side, CUTOUT)))
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


# The function that draws and the one that changes images by what was drawn, in the order of application.
CHANGES: dict[str, tuple[Callable[..., Any], Callable[..., Tensor]]] = {
    "resize": (draw_resize, resize),
    "color": (draw_color, color),
    "translation": (draw_translation, translation),
    "cutout": (draw_cutout, cutout),
}
