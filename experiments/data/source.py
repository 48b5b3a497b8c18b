"""What every collection of pictures offers to the loader: draws in, examples out."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

NO_LABEL = -1
SHUFFLING, AUGMENTATION = 0, 1  # purposes, so that two streams of random numbers never share a seed


@dataclass(frozen=True, slots=True)
class Draw:
    """One training picture of the endless stream: which pass over the collection, and which picture."""

    epoch: int
    index: int

    def random(self, seed: int) -> np.random.Generator:
        """Random numbers of this draw alone: equal whatever process asks, and in whatever order."""
        return np.random.default_rng([seed, AUGMENTATION, self.epoch, self.index])


@dataclass(frozen=True)
class Example:
    """image (3, H, W) uint8, label (-1 = none) and key, the picture's name in messages."""

    image: Tensor
    label: int
    key: str


@dataclass(frozen=True)
class Unreadable:
    """Stands in an evaluation batch for a picture that could not be decoded."""

    key: str


class Pictures(Protocol):
    """A dataset with a length."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: Any) -> Example | Unreadable: ...


class ImageSource(ABC):
    """A collection of pictures of one size.

    Attributes:
        image_size: height and width in pixels of every image.
        classes: names of the labels, None without labels.
        train: indexed by `Draw`, yields `Example`; all randomness comes from `Draw.random`.
        val: indexed by int, yields `Example` or `Unreadable`, always the same.
        transform: how evaluation pictures are cut, for the cards of results.
        reference: which pictures they are, for the cards of results.
    """

    image_size: int
    transform: str
    reference: str
    classes: list[str] | None
    train: Pictures
    val: Pictures

    @abstractmethod
    def fingerprint(self) -> str:
        """A short hash of everything that decides pixels: files' relative names and sizes, and options, but no path and no seed."""


def fingerprint_of(files: Iterable[tuple[str, int]], options: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits.

    Args:
        files: relative name and size in bytes of each.
        options: what else decides pixels, plain values.
    """
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for name, size in files:
        digest.update(f"\0{name}\0{size}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:12]
