"""Photographs that come with scikit-image and scikit-learn: training and validation without any download.

Two whole photos are held out. Training cuts random squares from the other nine, validation covers the held-out ones
with squares side by side. Eleven photos are enough to see a method work, not to rank methods.
"""

from functools import cached_property
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from experiments.config.errors import ConfigError
from experiments.data.contents import content_of
from experiments.data.decoding import decode
from experiments.data.files import located
from experiments.data.source import NO_LABEL, Draw, Example, ImageSource, fingerprint_of
from experiments.data.transforms import random_crop, random_flip, resize, to_tensor

TRAINING_PHOTOS = (
    "skimage/data/chelsea.png",
    "skimage/data/coffee.png",
    "skimage/data/hubble_deep_field.jpg",
    "skimage/data/ihc.png",
    "skimage/data/motorcycle_left.png",
    "skimage/data/motorcycle_right.png",
    "skimage/data/retina.jpg",
    "skimage/data/rocket.jpg",
    "sklearn/datasets/images/flower.jpg",
)
HELD_OUT_PHOTOS = ("skimage/data/astronaut.png", "sklearn/datasets/images/china.jpg")
LARGEST_IMAGE_SIZE = 300  # smallest height of the photos


class Photos(ImageSource):
    """Square crops of eleven embedded color photographs, without labels."""

    classes = None

    def __init__(self, image_size: int, seed: int, cuts_per_picture: int, largest_cut: float, flip: bool) -> None:
        """
        Args:
            image_size: height and width in pixels, at most 300.
            seed: seed of the crops.
            cuts_per_picture: training crops of each photo in one epoch; an epoch is only a number here, crops never repeat.
            largest_cut: sides of training crops are between image_size and this many times it, small ones being likelier;
                crops are then resized. 1 crops without resizing.
            flip: mirror half of the training crops.

        Raises:
            ConfigError: a value out of range.
            DataError: a photo is missing from its package.
        """
        if not 1 <= image_size <= LARGEST_IMAGE_SIZE:
            raise ConfigError("image_size", image_size, expected=f"1 .. {LARGEST_IMAGE_SIZE}, the embedded photos are no larger")
        for key, value in (("cuts_per_picture", cuts_per_picture), ("largest_cut", largest_cut)):
            if value < 1:
                raise ConfigError(key, value, expected="at least 1")
        self.image_size = image_size
        self.transform = "squares side by side, not resized"
        self.reference = f"photos: {', '.join(Path(name).stem for name in HELD_OUT_PHOTOS)}"
        self.options = {"image_size": image_size, "cuts_per_picture": cuts_per_picture, "largest_cut": largest_cut, "flip": flip}
        self.train = RandomCuts([located(name) for name in TRAINING_PHOTOS], image_size, seed, cuts_per_picture, largest_cut, flip)
        self.val = SideBySideCuts([located(name) for name in HELD_OUT_PHOTOS], image_size)

    def fingerprint(self) -> str:
        names = TRAINING_PHOTOS + HELD_OUT_PHOTOS
        return fingerprint_of([(name, content_of(located(name)).digest) for name in names], self.options)


class RandomCuts(Dataset[Example]):
    """Squares of random position and side; indexed by `Draw`."""

    def __init__(self, paths: list[Path], image_size: int, seed: int, cuts_per_picture: int, largest_cut: float, flip: bool) -> None:
        self.names = [path.stem for path in paths]
        self.photos = [to_tensor(decode(path)) for path in paths]
        self.image_size = image_size
        self.seed = seed
        self.cuts_per_picture = cuts_per_picture
        self.largest_cut = largest_cut
        self.flip = flip

    def __len__(self) -> int:
        return len(self.photos) * self.cuts_per_picture

    def __getitem__(self, draw: Draw) -> Example:
        number = draw.index % len(self.photos)
        photo, random = self.photos[number], draw.random(self.seed)
        largest = min(self.largest_cut * self.image_size, *photo.shape[1:])
        side = round(self.image_size * (largest / self.image_size) ** random.random())
        image = random_crop(photo, side, random)
        if side != self.image_size:
            image = resize(image, self.image_size, self.image_size, "bicubic")
        if self.flip:
            image = random_flip(image, random)
        return Example(image.contiguous(), NO_LABEL, f"{self.names[number]}#{draw.epoch}.{draw.index}")


class SideBySideCuts(Dataset[Example]):
    """All whole squares of a grid over each photo, row by row; keys name photo, top and left."""

    def __init__(self, paths: list[Path], image_size: int) -> None:
        self.image_size = image_size
        self.photos = {path.stem: to_tensor(decode(path)) for path in paths}

    @cached_property
    def places(self) -> list[tuple[str, int, int]]:
        """Photo, top and left of each square."""
        size = self.image_size
        return [
            (name, top, left)
            for name, photo in self.photos.items()
            for top in range(0, photo.shape[1] - size + 1, size)
            for left in range(0, photo.shape[2] - size + 1, size)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Example:
        name, top, left = self.places[index]
        image: Tensor = self.photos[name][:, top : top + self.image_size, left : left + self.image_size]
        return Example(image.contiguous(), NO_LABEL, f"{name}[{top},{left}]")
