"""User images: any folder, one file, or ImageNet's layout of `train/<class>/` and `val/<class>/`."""

import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from experiments.config.errors import ConfigError, DataError
from experiments.data.decoding import decode
from experiments.data.files import check_root, class_of, image_files, split
from experiments.data.source import NO_LABEL, Draw, Example, ImageSource, Unreadable, fingerprint_of
from experiments.data.transforms import Resampling, center_crop, random_crop, random_flip, resize_shorter_side

TOLERATED_FILES = 10  # up to this many unreadable files never stop a run, whatever their share

log = logging.getLogger(__name__)


class ImageFolder(ImageSource):
    """Images below a folder, or one image.

    If the folder has a `train` or `val` folder, only those two are read; with no `val`, a share of the images is held out by a
    hash of their names, or all are evaluated. The class of an image is its first folder, if every training image is in one;
    otherwise there are no labels. A single image is both trained on and validated.
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
        self.sizes = dict(sorted(image_files(Path(root))))
        train, val, which = parts(list(self.sizes), val_share, evaluated)
        self.classes = classes_of(train or val)
        train_files, val_files = (Files(Path(root), names, self.classes or [], max_unreadable) for names in (train, val))
        self.train = TrainingImages(train_files, image_size, seed, crop, flip, train_crop_share, resampling)
        shorter_side = math.floor(image_size / eval_crop_share)
        self.val = EvaluationImages(val_files, image_size, shorter_side, resampling)
        self.transform = f"shorter side {shorter_side}, {resampling}, center crop"
        self.reference = f"image_folder: {which}, {fingerprint_of(((name, self.sizes[name]) for name in val), {})}"

    def fingerprint(self) -> str:
        return fingerprint_of(self.sizes.items(), self.options)


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


def part_of(name: str) -> str:
    """ "train/", "val/" or "", as a relative name begins."""
    first = name[: name.find("/") + 1]
    return first if first in ("train/", "val/") else ""


def parts(names: list[str], val_share: float, evaluated: Literal["held_out", "all"]) -> tuple[list[str], list[str], str]:
    """Training and evaluation names, each sorted as `names`, and a description of the latter."""
    train, val = ([name for name in names if part_of(name) == part] for part in ("train/", "val/"))
    others = len(names) - len(train) - len(val)
    if others and (train or val):
        log.warning("data.root has train/ or val/ folders: %d images outside them are not used", others)
    if val:
        return train, val, "val folder"
    names = train or names
    return (names, names, "all images") if evaluated == "all" else (*split(names, val_share), f"held-out share {val_share:g}")


def classes_of(names: list[str]) -> list[str] | None:
    """Sorted class names, None if some image is in no class folder."""
    classes = {class_of(name, part_of(name)) for name in names}
    return None if None in classes else sorted(name for name in classes if name is not None)


class Files:
    """Files with labels, and a flag of each that could not be read, shared by all workers of a process."""

    def __init__(self, root: Path, names: list[str], classes: list[str], max_unreadable: float) -> None:
        numbers: dict[str | None, int] = {name: number for number, name in enumerate(classes)}
        owners = [class_of(name, part_of(name)) for name in names]
        unknown = sorted({owner for owner in owners if owner is not None and owner not in numbers}) if classes else []
        if unknown:
            raise DataError(root, f"it has val classes that training does not have: {', '.join(unknown[:5])}", "data.root")
        self.root = root
        self.folder = root.parent if root.is_file() else root
        self.names = np.array([os.fsencode(name) for name in names], dtype=np.bytes_)  # one block: forked workers do not copy it
        self.labels = np.array([numbers.get(owner, NO_LABEL) for owner in owners], dtype=np.int64)
        self.unreadable = torch.zeros(len(names), dtype=torch.bool)
        self.unreadable.share_memory_()  # type: ignore[no-untyped-call]
        self.max_unreadable = max_unreadable

    def __len__(self) -> int:
        return len(self.names)

    def key(self, index: int) -> str:
        """The file's name relative to the root."""
        return os.fsdecode(self.names[index])

    def read(self, index: int) -> Image.Image | None:
        """The decoded image; None, logged once, if it cannot be read.

        Raises:
            DataError: too many files are unreadable.
        """
        try:
            return decode(self.folder / self.key(index))
        except DataError as error:
            if not self.unreadable[index]:
                self.unreadable[index] = True
                log.warning("%s; it is skipped", error)
            self.check_share(error)
            return None

    def example(self, index: int, cut: Callable[[Image.Image], Tensor]) -> Example | Unreadable:
        """An image through `cut`."""
        image, key = self.read(index), self.key(index)
        return Unreadable(key) if image is None else Example(cut(image), int(self.labels[index]), key)

    def check_share(self, last: DataError) -> None:
        """Stop when too large a share cannot be read."""
        count = int(self.unreadable.sum())
        if count > max(TOLERATED_FILES, self.max_unreadable * len(self)):
            allowed = f"expected at most data.max_unreadable={self.max_unreadable} of them"
            raise DataError(self.root, f"{count} of {len(self)} files cannot be read, last {last}; {allowed}", "data.root")


class TrainingImages(Dataset[Example]):
    """Indexed by `Draw`. The next readable file, in the order of names, replaces an unreadable one."""

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

    def __getitem__(self, draw: Draw) -> Example:
        for step in range(len(self)):
            index = (draw.index + step) % len(self)
            image = self.files.read(index)
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
        return self.files.example(index, self.cut)

    def cut(self, image: Image.Image) -> Tensor:
        """The center of the image, resized."""
        return center_crop(resize_shorter_side(image, self.shorter_side, self.resampling), self.image_size).contiguous()
