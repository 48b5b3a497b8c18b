"""The views of an image in a token cache: the random crops of a few training passes, or ten crops.

Ten crops: LlamaGen (arXiv:2406.06525) and GigaTok (arXiv:2504.08736, section 4). The shorter side is resized to the image size times a
share, as ADM does, and the center square is cropped; the views are its four corners and its center, then those of its mirror image.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from experiments.config.errors import ConfigError
from experiments.data.image_folder import Files, ImageFolder
from experiments.data.source import Draw, Example, Examples, ImageSource, Unreadable
from experiments.data.transforms import center_crop, resize_shorter_side


class Views(Dataset[Example | Unreadable]):
    """Every image once, in order; an example's `image` is (views, 3, H, W).

    Attributes:
        views: number of views of each image.
    """

    views: int

    def __len__(self) -> int:
        raise NotImplementedError


class EvaluationViews(Views):
    """The evaluation images as they are, one view each."""

    views = 1

    def __init__(self, images: Examples) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example | Unreadable:
        example = self.images[index]
        return example if isinstance(example, Unreadable) else Example(example.image[None], example.label, example.key)


class DrawnViews(Views):
    """The crops of each image in the first training passes; unlike in training, no other image replaces an unreadable one."""

    def __init__(self, images: Examples, passes: int, flip: bool) -> None:
        """
        Args:
            images: indexed by `Draw`.
            passes: views of each image, before mirroring.
            flip: add the mirror image of every view, after all others.
        """
        self.images = images
        self.passes = passes
        self.flip = flip
        self.views = passes * (2 if flip else 1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example | Unreadable:
        drawn = []
        for number in range(self.passes):
            example = self.images[Draw(number, index, replaced=False)]
            if isinstance(example, Unreadable):
                return example
            drawn.append(example)
        images = torch.stack([example.image for example in drawn])
        return Example(torch.cat([images, images.flip(-1)]) if self.flip else images, drawn[0].label, drawn[0].key)


class TenCropViews(Views):
    """Ten crops of each image for every share."""

    def __init__(self, files: Files, image_size: int, shares: Sequence[float]) -> None:
        """
        Args:
            files: the image files.
            image_size: height and width of a crop in pixels.
            shares: sides of the squares before cropping, as multiples of image_size, at least 1.
        """
        self.files = files
        self.image_size = image_size
        self.sides = [int(image_size * share) for share in shares]
        self.views = 10 * len(self.sides)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Example | Unreadable:
        return self.files.example(index, max(self.sides), self.cut)

    def cut(self, image: Image.Image) -> Tensor:
        """(views, 3, H, W) of an image."""
        squares = [center_crop(resize_shorter_side(image, side, "box_bicubic"), side) for side in self.sides]
        return torch.cat([ten_crop(square, self.image_size) for square in squares])


def ten_crop(image: Tensor, size: int) -> Tensor:
    """(3, H, W) to (10, 3, size, size): upper left, upper right, lower left, lower right, center; then these five of its mirror image."""

    def five(image: Tensor) -> list[Tensor]:
        corners = [image[:, rows, columns] for rows in (slice(size), slice(-size, None)) for columns in (slice(size), slice(-size, None))]
        return [*corners, center_crop(image, size)]

    return torch.stack([*five(image), *five(image.flip(-1))])


def view_settings(crops: Literal["as_data", "ten_crop"], passes: int, flip: bool, shares: Sequence[float]) -> dict[str, Any]:
    """`views` of a cache's header: the settings of the training images' crops that have an effect."""
    return {"crops": crops, "shares": shares} if crops == "ten_crop" else {"crops": crops, "passes": passes, "flip": flip}


def training_views(source: ImageSource, views: Mapping[str, Any]) -> Views:
    """The views of the training images.

    Args:
        source: the images.
        views: see `view_settings`.

    Raises:
        ConfigError: ten crops of data that has no whole images.
    """
    if views["crops"] == "as_data":
        return DrawnViews(source.train, views["passes"], views["flip"])
    if not isinstance(source, ImageFolder):
        raise ConfigError("crops", "ten_crop", reason=f"{type(source).__name__} has no whole images; set data=image_folder")
    return TenCropViews(source.train.files, source.image_size, views["shares"])
