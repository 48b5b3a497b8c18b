"""The 1797 handwritten digits that come with scikit-learn: labeled, 8 x 8 pixels, enlarged. No download.

Source: Alpaydin and Kaynak 1998, UCI Optical Recognition of Handwritten Digits. A fifth of each digit is held out, always the same.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from experiments.config.errors import ConfigError
from experiments.data.contents import content_of
from experiments.data.files import located
from experiments.data.source import Draw, Example, ImageSource, fingerprint_of
from experiments.data.transforms import resize

FILE = "sklearn/datasets/data/digits.csv.gz"  # a row: 64 values in 0 .. 16, then the digit
WHITE = 16
VAL_SHARE = 0.2
SPLIT_SEED = 0


class Digits(ImageSource):
    """Gray digits as RGB, enlarged bicubically, labels 0 .. 9. There is no augmentation."""

    train: "DigitImages"
    val: "DigitImages"

    def __init__(self, image_size: int) -> None:
        """
        Args:
            image_size: height and width in pixels, at least 8.

        Raises:
            ConfigError: image_size is below 8.
            DataError: the file is missing from scikit-learn.
        """
        if image_size < 8:
            raise ConfigError("image_size", image_size, expected="at least 8, the size of the stored digits")
        self.image_size = image_size
        self.transform = "whole digits, bicubic"
        self.reference = f"digits: held-out share {VAL_SHARE}, split seed {SPLIT_SEED}"
        self.classes = [str(digit) for digit in range(10)]
        rows = np.loadtxt(located(FILE), delimiter=",").astype(np.int64)
        pixels, labels = (rows[:, :-1] * 255 / WHITE).round().astype(np.uint8).reshape(-1, 8, 8), rows[:, -1]
        held_out = stratified(labels)
        self.train = DigitImages(pixels, labels, np.flatnonzero(~held_out), image_size)
        self.val = DigitImages(pixels, labels, np.flatnonzero(held_out), image_size)

    def fingerprint(self) -> str:
        options = {"image_size": self.image_size, "val_share": VAL_SHARE, "split_seed": SPLIT_SEED}
        return fingerprint_of([(FILE, content_of(located(FILE)).digest)], options)


class DigitImages(Dataset[Example]):
    """Some of the digits; indexed by `Draw` or by int, with the same result."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], rows: NDArray[np.int64], image_size: int) -> None:
        self.pixels = pixels
        self.labels = labels
        self.rows = rows
        self.image_size = image_size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Draw | int) -> Example:
        row = int(self.rows[place.index if isinstance(place, Draw) else place])
        image = resize(torch.from_numpy(self.pixels[row])[None], self.image_size, self.image_size, "bicubic")
        return Example(image.repeat(3, 1, 1), int(self.labels[row]), f"digit{row}")


def stratified(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows are held out: the same share of every label, drawn with a constant seed."""
    held_out = np.zeros(len(labels), dtype=bool)
    random = np.random.default_rng(SPLIT_SEED)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        held_out[rows[: round(VAL_SHARE * len(rows))]] = True
    return held_out
