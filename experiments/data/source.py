"""What every collection offers to the loader: draws in, examples out, and how examples become a batch."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tokenizer.interfaces import ImageBatch

NO_LABEL = -1
SHUFFLING, AUGMENTATION = 0, 1  # purposes, so that two streams of random numbers never share a seed


@dataclass(frozen=True, slots=True)
class Draw:
    """One training example of the endless stream: which pass over the collection, and which picture."""

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


class Examples(Protocol):
    """A dataset with a length."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: Any) -> Any: ...


class DataSource(ABC):
    """A collection of pictures of one size, or of what was made of them.

    Attributes:
        image_size: height and width in pixels of every picture.
        classes: names of the labels, None without labels.
        train: indexed by `Draw`; all randomness comes from `Draw.random`.
        val: indexed by int, always the same.
        transform: how evaluation pictures are cut, for the cards of results.
        reference: which pictures they are, for the cards of results.
    """

    image_size: int
    transform: str
    reference: str
    classes: list[str] | None
    train: Examples
    val: Examples

    @abstractmethod
    def fingerprint(self) -> str:
        """A short hash of everything that decides the examples: files' relative names and sizes, and options, but no path and no seed."""

    def contents(self) -> dict[str, str]:
        """What the files of the data hold, for a run's identity: fingerprints and digests by name."""
        return {"data": self.fingerprint()}

    @abstractmethod
    def collate(self, examples: Any) -> Any:
        """What `train` or `val` gave for the places of one batch, as a batch; called in the reading process."""


class ImageSource(DataSource):
    """Pictures: `train` yields `Example`, `val` yields `Example` or `Unreadable`."""

    def collate(self, examples: list[Example | Unreadable]) -> ImageBatch:
        """See the function."""
        return collate(examples, self.image_size)


def collate(examples: list[Example | Unreadable], image_size: int) -> ImageBatch:
    """The readable examples as one batch, possibly of length 0; names of the others in `left_out`."""
    good = [example for example in examples if isinstance(example, Example)]
    images = torch.stack([example.image for example in good]) if good else torch.empty(0, 3, image_size, image_size, dtype=torch.uint8)
    labels = torch.tensor([example.label for example in good], dtype=torch.int64)
    left_out = [example.key for example in examples if isinstance(example, Unreadable)]
    return ImageBatch(images, labels, [example.key for example in good], left_out=left_out)


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
