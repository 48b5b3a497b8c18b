"""User images: any folder, one file, or ImageNet's layout of `train/<class>/` and `val/<class>/`."""

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from experiments.config.errors import ConfigError, DataError
from experiments.data.contents import Content, contents
from experiments.data.files import check_root, image_files
from experiments.data.layout import Layout, class_of, layout_of
from experiments.data.photographs import METHOD, decode_for, scale_of
from experiments.data.source import NO_LABEL, Draw, Example, ImageSource, Unreadable, fingerprint_of
from experiments.data.time_limits import SlowRead, time_limit
from experiments.data.transforms import Resampling, center_crop, random_crop, random_flip, resize_shorter_side

TOLERATED_FILES = 10  # up to this many unreadable files never stop a run, whatever their share

log = logging.getLogger(__name__)


class ImageFolder(ImageSource):
    """Images below a folder, or one image.

    If the folder has a `train` or `val` folder, or one of a similar name, only those two are read; with no `val`, a share of the
    images is held out by a hash of their names, or all are evaluated. The class of an image is its first folder; a few images that are
    in none are left out, and with more there are no labels. A single image is both trained on and validated.
    """

    train: "TrainingImages"

    def __init__(
        self,
        root: str,
        image_size: int,
        seed: int,
        crop: Literal["center", "random"],
        flip: bool,
        train_crop_share: float,
        eval_crop_share: float,
        resampling: Literal["bilinear", "bicubic", "box_bicubic"],
        val_share: float,
        evaluated: Literal["held_out", "all"],
        max_unreadable: float,
    ) -> None:
        """
        Args:
            root: a folder or a file.
            image_size: height and width in pixels after the crop.
            seed: seed of the training crops and flips.
            crop: position of training crops; evaluation crops are center crops.
            flip: mirror half of the training images.
            train_crop_share: smallest share of the shorter side in a training crop; each crop has a random share.
            eval_crop_share: share of the shorter side in an evaluation crop.
            resampling: see `resize_shorter_side`.
            val_share: expected share of held-out images where there is no val folder.
            evaluated: where there is no val folder, the held-out share or all images, also those of training.
            max_unreadable: the run fails when more than 10 files and more than this share of files cannot be read.

        Raises:
            ConfigError: a number out of range.
            DataError: no images, or a val class that training does not have.
        """
        check_root(root)
        shares = {"train_crop_share": train_crop_share, "eval_crop_share": eval_crop_share, "val_share": val_share}
        check_numbers(image_size, {**shares, "max_unreadable": max_unreadable})
        self.image_size = image_size
        self.options = {"image_size": image_size, "crop": crop, "flip": flip, "resampling": resampling, "evaluated": evaluated, **shares}
        layout, self.images = readable_layout(Path(root), val_share, evaluated)
        self.classes = layout.classes
        train_files, val_files = (Files(Path(root), names, self.classes or [], max_unreadable) for names in (layout.train, layout.val))
        self.train = TrainingImages(train_files, image_size, seed, crop, flip, train_crop_share, resampling)
        shorter_side = math.floor(image_size / eval_crop_share)
        self.val = EvaluationImages(val_files, image_size, shorter_side, resampling)
        evaluation = {name: self.images[name] for name in layout.val}
        notes = notes_on(evaluation, shorter_side)
        self.transform = "; ".join([f"shorter side {shorter_side}, {resampling}, center crop", *notes])
        self.reference = f"image_folder: {layout.which}, {fingerprint_of(digests(evaluation), {})}"
        for part, side, names in (("training", image_size, layout.train), ("evaluation", shorter_side, layout.val)):
            for note in notes_on({name: self.images[name] for name in names}, side):
                log.warning("%s at %d pixels: %s", part, side, note)

    def fingerprint(self) -> str:
        return fingerprint_of(digests(self.images), {**self.options, "decoding": METHOD})

    def unreadable(self) -> list[str]:
        return self.train.files.names_where(self.train.files.unreadable)


def digests(images: Mapping[str, Content]) -> Iterator[tuple[str, str]]:
    """Name and digest of each image."""
    return ((name, image.digest) for name, image in images.items())


def check_numbers(image_size: int, shares: dict[str, float]) -> None:
    """Refuse numbers out of range by their keys.

    Raises:
        ConfigError: a number out of range.
    """
    if image_size < 1:
        raise ConfigError("image_size", image_size, expected="at least 1")
    for name, share in shares.items():
        if not 0 < share <= 1:
            raise ConfigError(f"data.{name}", share, expected="a number in (0, 1]")


def readable_layout(root: Path, val_share: float, evaluated: Literal["held_out", "all"]) -> tuple[Layout, dict[str, Content]]:
    """Training and evaluation images of a folder, and the content of each; what is skipped is logged."""
    skipped: dict[str, list[str]] = {}
    statuses = dict(sorted(image_files(root, skipped)))
    for reason, names in skipped.items():
        log.warning("data.root=%s: %d %s and are left out: %s", root, len(names), reason, ", ".join(names[:3]))
    layout = layout_of(root, list(statuses), val_share, evaluated)
    folder = root.parent if root.is_file() else root
    return layout, contents(folder, {name: statuses[name] for name in sorted({*layout.train, *layout.val})})


def notes_on(images: Mapping[str, Content], shorter_side: int) -> list[str]:
    """How many images are enlarged and how many decoded at a reduced size, for cards and messages.

    Args:
        images: content of each image.
        shorter_side: pixels of the shorter side after resizing.
    """
    known = [image for image in images.values() if image.height]
    small = [image for image in known if min(image.height, image.width) < shorter_side]
    notes = []
    if small:
        smallest = min(small, key=lambda image: (min(image.height, image.width), image.height * image.width))
        notes.append(f"{len(small)} of {len(images)} images enlarged, the smallest of {smallest.height} x {smallest.width} pixels")
    reduced = sum(scale_of(image.kind, image.width, image.height, shorter_side) > 1 for image in known)
    if reduced:
        notes.append(f"{reduced} of {len(images)} images reduced while decoding: {METHOD}")
    return notes


class Files:
    """Files with labels, and flags of those that could not be read and of those being read, shared by all workers of a process."""

    def __init__(self, root: Path, names: list[str], classes: list[str], max_unreadable: float) -> None:
        numbers: dict[str | None, int] = {name: number for number, name in enumerate(classes)}
        owners = [class_of(name) for name in names]
        self.root = root
        self.folder = root.parent if root.is_file() else root
        self.names = np.array([os.fsencode(name) for name in names], dtype=np.bytes_)  # one block: forked workers do not copy it
        self.labels = np.array([numbers.get(owner, NO_LABEL) for owner in owners], dtype=np.int64)
        self.unreadable, self.being_read = (torch.zeros(len(names), dtype=torch.bool) for _ in range(2))
        for flags in (self.unreadable, self.being_read):
            flags.share_memory_()  # type: ignore[no-untyped-call]
        self.max_unreadable = max_unreadable

    def __len__(self) -> int:
        return len(self.names)

    def key(self, index: int) -> str:
        """The file's name relative to the root."""
        return os.fsdecode(self.names[index])

    def names_where(self, flags: Tensor) -> list[str]:
        """Names of the files with a flag."""
        return [self.key(int(index)) for index in flags.nonzero()]

    def read(self, index: int, shorter_side: int) -> Image.Image | None:
        """The decoded image; None, logged once, if it cannot be read.

        Args:
            index: number of the file.
            shorter_side: pixels of the shorter side that the crops need; a large photograph is decoded at a reduced size above it.

        Raises:
            DataError: too many files are unreadable, or reading took too long.
        """
        path = self.folder / self.key(index)
        self.being_read[index] = True
        try:
            with time_limit(path):
                return decode_for(path, shorter_side)
        except SlowRead:
            raise
        except DataError as error:
            if not self.unreadable[index]:
                self.unreadable[index] = True
                log.warning("%s; it is skipped", error)
            self.check_share(error)
            return None
        finally:
            self.being_read[index] = False

    def example(self, index: int, shorter_side: int, cut: Callable[[Image.Image], Tensor]) -> Example | Unreadable:
        """An image, see `read`, through `cut`."""
        image, key = self.read(index, shorter_side), self.key(index)
        return Unreadable(key) if image is None else Example(cut(image), int(self.labels[index]), key)

    def check_share(self, last: DataError) -> None:
        """Stop when too large a share cannot be read."""
        count = int(self.unreadable.sum())
        if count > max(TOLERATED_FILES, self.max_unreadable * len(self)):
            allowed = f"expected at most data.max_unreadable={self.max_unreadable} of them"
            raise DataError(self.root, f"{count} of {len(self)} files cannot be read, last {last}; {allowed}", "data.root")


class TrainingImages(Dataset[Example | Unreadable]):
    """Indexed by `Draw`. The next readable file, in the order of names, replaces an unreadable one, unless the draw excludes it."""

    def __init__(
        self,
        files: Files,
        image_size: int,
        seed: int,
        crop: Literal["center", "random"],
        flip: bool,
        crop_share: float,
        resampling: Resampling,
    ) -> None:
        self.files = files
        self.image_size = image_size
        self.seed = seed
        self.crop = crop
        self.flip = flip
        self.longest_side = math.floor(image_size / crop_share)
        self.resampling: Resampling = resampling

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, draw: Draw) -> Example | Unreadable:
        for step in range(len(self)):
            index = (draw.index + step) % len(self)
            image = self.files.read(index, self.longest_side)
            if image is None and not draw.replaced:
                return Unreadable(self.files.key(index))
            if image is not None:
                augmented = self.augmented(image, draw.random(self.seed))
                return Example(augmented.contiguous(), int(self.files.labels[index]), self.files.key(index))
        raise DataError(self.files.root, f"none of the {len(self)} training images can be read", "data.root")

    def augmented(self, image: Image.Image, random: np.random.Generator) -> Tensor:
        """The image resized, cropped and mirrored by the options."""
        shorter_side = int(random.integers(self.image_size, self.longest_side + 1))
        resized = resize_shorter_side(image, shorter_side, self.resampling)
        cropped = random_crop(resized, self.image_size, random) if self.crop == "random" else center_crop(resized, self.image_size)
        return random_flip(cropped, random) if self.flip else cropped


class EvaluationImages(Dataset[Example | Unreadable]):
    """Indexed by int: the center of each image."""

    def __init__(self, files: Files, image_size: int, shorter_side: int, resampling: Resampling) -> None:
        self.files = files
        self.image_size = image_size
        self.shorter_side = shorter_side
        self.resampling: Resampling = resampling

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Example | Unreadable:
        return self.files.example(index, self.shorter_side, self.cut)

    def cut(self, image: Image.Image) -> Tensor:
        """The center of the image, resized."""
        return center_crop(resize_shorter_side(image, self.shorter_side, self.resampling), self.image_size).contiguous()
