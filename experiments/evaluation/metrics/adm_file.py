"""The npz files of ADM's evaluation: pictures, and what was computed of others.

Source: Dhariwal and Nichol 2021, arXiv:2105.05233. `arr_0` (n, H, W, 3) uint8 pictures; `mu`, `sigma` and `mu_s`, `sigma_s` mean and
covariance of pooled and of spatial Inception features, in a reference file those of all training pictures.
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

PICTURES = "arr_0"
IMAGES_PER_READ = 64


class AdmFile:
    """One such file; pictures are read a few at a time, they may be larger than the memory. A pickled array is refused."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            ValueError: it is absent or no npz file.
        """
        self.path = Path(path)
        with self._reading(), zipfile.ZipFile(self.path) as file:
            self.names = {name.removesuffix(".npy") for name in file.namelist()}

    def array(self, name: str) -> NDArray[np.float64]:
        """A whole array of numbers.

        Raises:
            ValueError: it is damaged, absent, holds something else, or a number that is not finite.
        """
        with self._reading(), np.load(self.path, allow_pickle=False) as file:
            found = file[name]
        if found.dtype.kind not in "fiu":
            raise ValueError(f"{name} of {self.path} holds {found.dtype}, expected numbers")
        if not np.isfinite(found).all():
            raise ValueError(f"{name} of {self.path} holds numbers that are not finite")
        return np.asarray(found, dtype=np.float64)

    def pictures(self) -> Iterator[Tensor]:
        """All pictures in order, (B, 3, H, W) uint8.

        Raises:
            ValueError: they are absent, damaged, or of another type or shape.
        """
        with self._reading(), zipfile.ZipFile(self.path) as file, file.open(f"{PICTURES}.npy") as member:
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran, dtype = read_header[np.lib.format.read_magic(member)](member)
            if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or fortran:
                raise ValueError(f"it holds {dtype} of the shape {shape}, expected uint8 (n, height, width, 3)")
            for start in range(0, shape[0], IMAGES_PER_READ):
                count = min(IMAGES_PER_READ, shape[0] - start)
                block = np.frombuffer(bytearray(member.read(count * shape[1] * shape[2] * 3)), dtype=np.uint8)
                yield torch.from_numpy(block.reshape(count, *shape[1:])).permute(0, 3, 1, 2)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Everything that a file may have wrong, as one message."""
        try:
            yield
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{self.path} is not an npz file as ADM's evaluation reads and writes them: {error}") from error
