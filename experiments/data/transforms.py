"""From decoded pictures to images of one size, and from bytes to the range of the models. Pure functions."""

from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Resampling = Literal["bilinear", "bicubic", "box_bicubic"]


def resize_shorter_side(image: Image.Image, size: int, resampling: Resampling) -> Image.Image:
    """The whole picture with a shorter side of `size` pixels, antialiased.

    `box_bicubic` halves by averaging while that stays above `size`, then goes bicubic, as the evaluation of ADM
    (arXiv:2105.05233) and many papers after it. The longer side is rounded down, with box_bicubic to the nearest.
    """
    if resampling == "box_bicubic":
        while min(image.size) >= 2 * size:
            image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    shorter, longer = min(image.size), max(image.size)
    long_side = round(longer * size / shorter) if resampling == "box_bicubic" else size * longer // shorter
    kernel = Image.Resampling.BILINEAR if resampling == "bilinear" else Image.Resampling.BICUBIC
    return image.resize((size, long_side) if image.width <= image.height else (long_side, size), kernel)


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """The middle square of side `size`."""
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def random_crop(image: Image.Image, size: int, random: np.random.Generator) -> Image.Image:
    """A square of side `size`, all places alike."""
    left, top = int(random.integers(image.width - size + 1)), int(random.integers(image.height - size + 1))
    return image.crop((left, top, left + size, top + size))


def random_flip(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """The picture or, half of the time, its mirror image."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else image


def to_tensor(image: Image.Image) -> Tensor:
    """(3, H, W) uint8 of an RGB picture."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def normalize(images: Tensor) -> Tensor:
    """uint8 in [0, 255] to fp32 in [-1, 1], of any shape; called once, on the device."""
    return images.float() / 127.5 - 1
