"""The views of a picture that a token cache keeps: what training would draw in a few passes, or ten crops.

Ten crops: LlamaGen (arXiv:2406.06525) and GigaTok (arXiv:2504.08736, section 4). The shorter side is resized to the image size times a
share, as ADM does, and the middle square is cut out; of it the four corners and the centre, then those of its mirror image.
"""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from experiments.data.image_folder import Files, ImageFolder
from experiments.data.source import Draw, Example, Examples, ImageSource, Unreadable
from experiments.data.transforms import center_crop, resize_shorter_side


class Views(Dataset[Example | Unreadable]):
    """Every picture once, in order; an example's `image` is (views, 3, H, W).

    Attributes:
        views: of each picture.
    """

    views: int

    def __len__(self) -> int:
        raise NotImplementedError


class EvaluationViews(Views):
    """The evaluation pictures as they are, one view each."""

    views = 1

    def __init__(self, pictures: Examples) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Example | Unreadable:
        example = self.pictures[index]
        return example if isinstance(example, Unreadable) else Example(example.image[None], example.label, example.key)


class DrawnViews(Views):
    """What training draws of each picture in its first passes. A picture that training replaces is replaced in all of them."""

    def __init__(self, pictures: Examples, passes: int, flip: bool) -> None:
        """
        Args:
            pictures: indexed by `Draw`.
            passes: views of each picture, before mirroring.
            flip: add the mirror image of every view, after all others.
        """
        self.pictures = pictures
        self.passes = passes
        self.flip = flip
        self.views = passes * (2 if flip else 1)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Example:
        drawn = [self.pictures[Draw(number, index)] for number in range(self.passes)]
        images = torch.stack([example.image for example in drawn])
        return Example(torch.cat([images, images.flip(-1)]) if self.flip else images, drawn[0].label, drawn[0].key)


class TenCropViews(Views):
    """Ten crops of each picture for every share."""

    def __init__(self, pictures: Files, image_size: int, shares: Sequence[float]) -> None:
        """
        Args:
            pictures: whole ones.
            image_size: height and width of a crop in pixels.
            shares: sides of the squares that the crops are cut from, as multiples of image_size, at least 1.
        """
        self.pictures = pictures
        self.image_size = image_size
        self.sides = [int(image_size * share) for share in shares]
        self.views = 10 * len(self.sides)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Example | Unreadable:
        return self.pictures.example(index, self.cut)

    def cut(self, picture: Image.Image) -> Tensor:
        """(views, 3, H, W) of a picture."""
        squares = [center_crop(resize_shorter_side(picture, side, "box_bicubic"), side) for side in self.sides]
        return torch.cat([ten_crop(square, self.image_size) for square in squares])


def ten_crop(image: Tensor, size: int) -> Tensor:
    """(3, H, W) to (10, 3, size, size): upper left, upper right, lower left, lower right, centre; then these five of its mirror image."""

    def five(image: Tensor) -> list[Tensor]:
        corners = [image[:, rows, columns] for rows in (slice(size), slice(-size, None)) for columns in (slice(size), slice(-size, None))]
        return [*corners, center_crop(image, size)]

    return torch.stack([*five(image), *five(image.flip(-1))])


def training_views(source: ImageSource, views: dict[str, Any]) -> Views:
    """The views of the training pictures.

    Args:
        source: the pictures.
        views: as a cache's header has them, `crops`, and `passes` and `flip` of as_data or `shares` of ten_crop.

    Raises:
        ValueError: ten crops of data that has no whole pictures.
    """
    if views["crops"] == "as_data":
        return DrawnViews(source.train, views["passes"], views["flip"])
    if not isinstance(source, ImageFolder):
        raise ValueError(f"crops=ten_crop: {type(source).__name__} has no whole pictures to cut; set data=image_folder, or crops=as_data")
    return TenCropViews(source.train.pictures, source.image_size, views["shares"])
