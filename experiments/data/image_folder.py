"""Pictures of your own: any folder, one file, or ImageNet's layout of `train/<class>/` and `val/<class>/`."""

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

from experiments.data.decoding import UnreadableImageError, decode
from experiments.data.files import check_root, class_of, picture_files, split
from experiments.data.source import NO_LABEL, Draw, Example, ImageSource, Unreadable, fingerprint_of
from experiments.data.transforms import Resampling, center_crop, random_crop, random_flip, resize_shorter_side

TOLERATED_FILES = 10  # so many unreadable files never stop a run, whatever their share

log = logging.getLogger(__name__)


class ImageFolder(ImageSource):
    """Pictures below a folder, or one picture.

    If the folder has a `train` or `val` folder, only those two count; with no `val`, a share of the pictures is held out by a
    hash of their names, or all are evaluated. A picture's class is its first folder, if every training picture lies in one;
    otherwise there are no labels. A single picture is trained on and validated.
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
            seed: of the training crops and flips.
            crop: where training crops lie; evaluation crops lie in the centre.
            flip: mirror half of the training pictures.
            train_crop_share: smallest share of the shorter side that a training crop shows; the share is drawn for each.
            eval_crop_share: share of the shorter side that an evaluation crop shows.
            resampling: see `resize_shorter_side`.
            val_share: expected share of held-out pictures where there is no val folder.
            evaluated: where there is no val folder, the held-out share or all pictures, those of training among them.
            max_unreadable: the run fails when more than 10 files and more than this share of files cannot be read.

        Raises:
            ValueError: no pictures, a val class that training does not have, or a share out of range.
        """
        check_root(root)
        shares = {"train_crop_share": train_crop_share, "eval_crop_share": eval_crop_share, "val_share": val_share}
        check_numbers(image_size, {**shares, "max_unreadable": max_unreadable})
        self.image_size = image_size
        self.options = {"image_size": image_size, "crop": crop, "flip": flip, "resampling": resampling, "evaluated": evaluated, **shares}
        self.sizes = dict(sorted(picture_files(Path(root))))
        train, val, which = parts(list(self.sizes), val_share, evaluated)
        self.classes = classes_of(train or val)
        train_files, val_files = (Files(Path(root), names, self.classes or [], max_unreadable) for names in (train, val))
        self.train = TrainingImages(train_files, image_size, seed, crop, flip, train_crop_share, resampling)
        shorter_side = math.floor(image_size / eval_crop_share)
        self.val = EvaluationImages(val_files, image_size, shorter_side, resampling)
        self.transform = f"shorter side {shorter_side}, {resampling}, centre crop"
        self.reference = f"image_folder: {which}, {fingerprint_of(((name, self.sizes[name]) for name in val), {})}"

    def fingerprint(self) -> str:
        return fingerprint_of(self.sizes.items(), self.options)


def check_numbers(image_size: int, shares: dict[str, float]) -> None:
    """Refuse numbers out of range by their keys.

    Raises:
        ValueError: as said.
    """
    if image_size < 1:
        raise ValueError(f"image_size={image_size} must be at least 1")
    for name, share in shares.items():
        if not 0 < share <= 1:
            raise ValueError(f"data.{name}={share} must lie in (0, 1]")


def part_of(name: str) -> str:
    """ "train/", "val/" or "", as a relative name begins."""
    first = name[: name.find("/") + 1]
    return first if first in ("train/", "val/") else ""


def parts(names: list[str], val_share: float, evaluated: Literal["held_out", "all"]) -> tuple[list[str], list[str], str]:
    """Training and evaluation names, each sorted as `names`, and which the latter are, in words."""
    train, val = ([name for name in names if part_of(name) == part] for part in ("train/", "val/"))
    others = len(names) - len(train) - len(val)
    if others and (train or val):
        log.warning("data.root has train/ or val/ folders: %d pictures outside them are not used", others)
    if val:
        return train, val, "val folder"
    names = train or names
    return (names, names, "all pictures") if evaluated == "all" else (*split(names, val_share), f"held-out share {val_share:g}")


def classes_of(names: list[str]) -> list[str] | None:
    """Sorted class names, None if some picture lies in no class folder."""
    classes = {class_of(name, part_of(name)) for name in names}
    return None if None in classes else sorted(name for name in classes if name is not None)


class Files:
    """Files with labels, and which of them turned out to be unreadable, known to all workers of a process."""

    def __init__(self, root: Path, names: list[str], classes: list[str], max_unreadable: float) -> None:
        numbers: dict[str | None, int] = {name: number for number, name in enumerate(classes)}
        owners = [class_of(name, part_of(name)) for name in names]
        unknown = sorted({owner for owner in owners if owner is not None and owner not in numbers}) if classes else []
        if unknown:
            raise ValueError(f"data.root={root} has val classes that training does not have: {', '.join(unknown[:5])}")
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
        """The decoded picture; None, noted and logged once, if it cannot be read.

        Raises:
            ValueError: too many files are unreadable.
        """
        try:
            return decode(self.folder / self.key(index))
        except UnreadableImageError as error:
            if not self.unreadable[index]:
                self.unreadable[index] = True
                log.warning("%s; it is skipped", error)
            self.check_share(error)
            return None

    def example(self, index: int, cut: Callable[[Image.Image], Tensor]) -> Example | Unreadable:
        """A picture as `cut` makes it."""
        picture, key = self.read(index), self.key(index)
        return Unreadable(key) if picture is None else Example(cut(picture), int(self.labels[index]), key)

    def check_share(self, last: UnreadableImageError) -> None:
        """Stop when the collection is not what it seems."""
        count = int(self.unreadable.sum())
        if count > max(TOLERATED_FILES, self.max_unreadable * len(self)):
            raise ValueError(
                f"{count} of {len(self)} files below data.root={self.root} cannot be read, last {last}; "
                f"expected at most data.max_unreadable={self.max_unreadable} of them"
            )


class TrainingImages(Dataset[Example]):
    """Indexed by `Draw`. The next readable file, in the order of names, stands in for an unreadable one."""

    def __init__(
        self,
        pictures: Files,
        image_size: int,
        seed: int,
        crop: Literal["center", "random"],
        flip: bool,
        crop_share: float,
        resampling: Resampling,
    ) -> None:
        self.pictures = pictures
        self.image_size = image_size
        self.seed = seed
        self.crop = crop
        self.flip = flip
        self.longest_side = math.floor(image_size / crop_share)
        self.resampling: Resampling = resampling

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, draw: Draw) -> Example:
        for step in range(len(self)):
            index = (draw.index + step) % len(self)
            picture = self.pictures.read(index)
            if picture is not None:
                image = self.augmented(picture, draw.random(self.seed))
                return Example(image.contiguous(), int(self.pictures.labels[index]), self.pictures.key(index))
        raise ValueError(f"none of the {len(self)} training pictures below data.root={self.pictures.root} can be read")

    def augmented(self, picture: Image.Image, random: np.random.Generator) -> Tensor:
        """Resized, cut and mirrored as the options say."""
        shorter_side = int(random.integers(self.image_size, self.longest_side + 1))
        image = resize_shorter_side(picture, shorter_side, self.resampling)
        image = random_crop(image, self.image_size, random) if self.crop == "random" else center_crop(image, self.image_size)
        return random_flip(image, random) if self.flip else image


class EvaluationImages(Dataset[Example | Unreadable]):
    """Indexed by int: the centre of each picture."""

    def __init__(self, pictures: Files, image_size: int, shorter_side: int, resampling: Resampling) -> None:
        self.pictures = pictures
        self.image_size = image_size
        self.shorter_side = shorter_side
        self.resampling: Resampling = resampling

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Example | Unreadable:
        return self.pictures.example(index, self.cut)

    def cut(self, picture: Image.Image) -> Tensor:
        """The centre of the picture, resized."""
        return center_crop(resize_shorter_side(picture, self.shorter_side, self.resampling), self.image_size).contiguous()
