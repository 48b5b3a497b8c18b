"""Interface of all data: draws in, examples out, and how examples become a batch."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tokenizer.files import DIGITS
from tokenizer.interfaces import ImageBatch

NO_LABEL = -1
SHUFFLING, AUGMENTATION = 0, 1  # purposes, so that two streams of random numbers never share a seed


@dataclass(frozen=True, slots=True)
class Draw:
    """One training example of the endless stream: number of the pass over the data, and of the image."""

    epoch: int
    index: int
    replaced: bool = True  # whether the next readable image replaces an unreadable one; otherwise the example is `Unreadable`

    def random(self, seed: int) -> np.random.Generator:
        """Random numbers of this draw alone: the same in any process, and in any order."""
        return np.random.default_rng([seed, AUGMENTATION, self.epoch, self.index])


@dataclass(frozen=True)
class Example:
    """image (3, H, W) uint8, label (-1 = none) and key, the name of the image in messages."""

    image: Tensor
    label: int
    key: str


@dataclass(frozen=True)
class Unreadable:
    """Replaces an image that could not be decoded in an evaluation batch."""

    key: str


class Examples(Protocol):
    """A dataset with a length."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: Any) -> Any: ...


class DataSource(ABC):
    """Images of one size, or their tokens.

    Attributes:
        image_size: height and width in pixels of every image.
        classes: names of the labels, None without labels.
        train: indexed by `Draw`; all randomness comes from `Draw.random`.
        val: indexed by int, always the same.
        transform: how evaluation images are cropped, for the cards of results.
        reference: which images they are, for the cards of results.
    """

    image_size: int
    transform: str
    reference: str
    classes: list[str] | None
    train: Examples
    val: Examples

    @abstractmethod
    def fingerprint(self) -> str:
        """Short hash of everything that determines the examples: names and content of files, and options, but no path, time or seed."""

    def contents(self) -> dict[str, str]:
        """Fingerprints and digests of the content of the files, by name, for a run's identity."""
        return {"data": self.fingerprint()}

    def unreadable(self) -> list[str]:
        """Names of the training images that this process could not read so far."""
        return []

    @abstractmethod
    def collate(self, examples: Any) -> Any:
        """The examples of `train` or `val` of one batch, as a batch; called in the reading process."""


class ImageSource(DataSource):
    """Images: `train` yields `Example`, `val` yields `Example` or `Unreadable`."""

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


def fingerprint_of(files: Iterable[tuple[str, str | int]], options: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of files and options.

    Args:
        files: relative name and digest of each.
        options: everything else that determines pixels, plain values.
    """
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for name, content in files:
        digest.update(f"\0{name}\0{content}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:DIGITS]
