"""The npz files of ADM's evaluation: images, and statistics of other images.

Source: Dhariwal and Nichol 2021, arXiv:2105.05233. `arr_0` (n, H, W, 3) uint8 images; `mu`, `sigma` and `mu_s`, `sigma_s` mean and
covariance of pooled and of spatial Inception features, in a reference file those of all training images.
"""

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.config.errors import DataError
from experiments.data.archives import check_archive
from experiments.data.decoding import MAX_PIXELS

KEY = "reference"
EXPECTED = "an npz file of ADM"
IMAGES = "arr_0"
IMAGES_PER_READ, BYTES_PER_READ = 64, 1 << 28  # fewer of images that are larger than 1000 x 1000 pixels

Header = tuple[tuple[int, ...], bool, np.dtype[np.generic]]  # shape, whether it is in Fortran's order, and type of an array


class AdmFile:
    """One such file; images are read a few at a time, as they may be larger than the memory. A pickled array is refused.

    Shape and type of an array are compared with what is expected, and with the size of its entry, before it is read.

    Args:
        path: the file.

    Raises:
        DataError: it is absent, no npz file, or expands to more than `check_archive` allows.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.names = {name.removesuffix(".npy") for name in check_archive(self.path, KEY, EXPECTED)}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array, from its header.

        Raises:
            DataError: it is damaged or absent.
        """
        with self._opened(name) as (_, (shape, _, _)):
            return shape

    def array(self, name: str) -> NDArray[np.float64]:
        """A whole array of numbers.

        Raises:
            DataError: it is damaged, absent, of another type, or has a number that is not finite.
        """
        with self._opened(name) as (member, (shape, fortran, dtype)):
            if dtype.kind not in "fiu":
                raise self._error(f"{name} is of {dtype}, expected numbers")
            array = np.frombuffer(member.read(), dtype=dtype).reshape(shape, order="F" if fortran else "C")
        if not np.isfinite(array).all():
            raise self._error(f"{name} has numbers that are not finite")
        return np.array(array, dtype=np.float64)

    def images(self) -> Iterator[Tensor]:
        """All images in order, (B, 3, H, W) uint8.

        Raises:
            DataError: they are absent, damaged, or of another type or shape.
        """
        with self._opened(IMAGES) as (member, (shape, fortran, dtype)):
            if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or fortran:
                raise self._error(f"{IMAGES} is of {dtype} and the shape {shape}, expected uint8 (n, height, width, 3)")
            pixels = shape[1] * shape[2]
            if not 0 < pixels <= MAX_PIXELS:
                raise self._error(f"{IMAGES} has images of {shape[1]} x {shape[2]} pixels, expected 1 to {MAX_PIXELS:,} pixels")
            together = max(1, min(IMAGES_PER_READ, BYTES_PER_READ // (3 * pixels)))
            for start in range(0, shape[0], together):
                count = min(together, shape[0] - start)
                block = np.frombuffer(bytearray(member.read(count * 3 * pixels)), dtype=np.uint8)
                yield torch.from_numpy(block.reshape(count, *shape[1:])).permute(0, 3, 1, 2)

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[IO[bytes], Header]]:
        """The entry of an array after its header, which is checked; all errors of reading as one class."""
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        try:
            with zipfile.ZipFile(self.path) as file, file.open(f"{name}.npy") as member:
                shape, fortran, dtype = read_header[np.lib.format.read_magic(member)](member)
                declared, size = member.seek(0, os.SEEK_CUR) + math.prod(shape) * dtype.itemsize, file.getinfo(f"{name}.npy").file_size
                if dtype.hasobject or declared != size or min(shape, default=0) < 0:
                    raise ValueError(f"{name} is declared as {dtype} of the shape {shape} in {size:,} bytes")
                yield member, (shape, fortran, dtype)
        except DataError:
            raise
        except Exception as error:  # zipfile and NumPy raise many built-in errors on damaged files
            raise self._error(f"it is not an npz file as ADM's evaluation reads and writes them: {' '.join(str(error).split())}") from error

    def _error(self, reason: str) -> DataError:
        return DataError(self.path, reason, KEY)
