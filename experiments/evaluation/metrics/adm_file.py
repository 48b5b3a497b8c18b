"""The npz files of ADM's evaluation: images, and statistics of other images.

Source: Dhariwal and Nichol 2021, arXiv:2105.05233. `arr_0` (n, H, W, 3) uint8 images; `mu`, `sigma` and `mu_s`, `sigma_s` mean and
covariance of pooled and of spatial Inception features, in a reference file those of all training images.
"""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.config.errors import DataError

IMAGES = "arr_0"
IMAGES_PER_READ = 64


class AdmFile:
    """One such file; images are read a few at a time, as they may be larger than the memory. A pickled array is refused.

    Args:
        path: the file.

    Raises:
        DataError: it is absent or no npz file.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        with self._reading(), zipfile.ZipFile(self.path) as file:
            self.names = {name.removesuffix(".npy") for name in file.namelist()}

    def array(self, name: str) -> NDArray[np.float64]:
        """A whole array of numbers.

        Raises:
            DataError: it is damaged, absent, of another type, or has a number that is not finite.
        """
        with self._reading(), np.load(self.path, allow_pickle=False) as file:
            array = file[name]
        if array.dtype.kind not in "fiu":
            raise DataError(self.path, f"{name} is of {array.dtype}, expected numbers")
        if not np.isfinite(array).all():
            raise DataError(self.path, f"{name} has numbers that are not finite")
        return np.asarray(array, dtype=np.float64)

    def images(self) -> Iterator[Tensor]:
        """All images in order, (B, 3, H, W) uint8.

        Raises:
            DataError: they are absent, damaged, or of another type or shape.
        """
        with self._reading(), zipfile.ZipFile(self.path) as file, file.open(f"{IMAGES}.npy") as member:
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran, dtype = read_header[np.lib.format.read_magic(member)](member)
            if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or fortran:
                raise DataError(self.path, f"{IMAGES} is of {dtype} and the shape {shape}, expected uint8 (n, height, width, 3)")
            for start in range(0, shape[0], IMAGES_PER_READ):
                count = min(IMAGES_PER_READ, shape[0] - start)
                block = np.frombuffer(bytearray(member.read(count * shape[1] * shape[2] * 3)), dtype=np.uint8)
                yield torch.from_numpy(block.reshape(count, *shape[1:])).permute(0, 3, 1, 2)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """All errors of reading a file as one class."""
        try:
            yield
        except DataError:
            raise
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(self.path, f"it is not an npz file as ADM's evaluation reads and writes them: {error}") from error
