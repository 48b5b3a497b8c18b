"""Samples as ADM's evaluation reads them: an npz file with `arr_0` (n, H, W, 3) uint8 and `arr_1` (n,) int64 labels.

Source of the form: Dhariwal and Nichol 2021, arXiv:2105.05233. Images are written batch by batch, never all in memory: fifty
thousand of 256 x 256 pixels are 9.8 GB. `numpy.load` reads it.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.files import atomic


class SampleFile:
    """A file that `sample_file` is writing."""

    def __init__(self, archive: zipfile.ZipFile, labels: NDArray[np.int64]) -> None:
        self.archive, self.labels = archive, labels
        self.written = 0
        self.images: IO[bytes] | None = None

    def write(self, images: NDArray[np.uint8]) -> None:
        """The next images, (B, H, W, 3)."""
        if self.images is None:
            # The size is not known to zipfile, and a file that turns out larger than 2 GiB would fail without force_zip64.
            self.images = self.archive.open("arr_0.npy", "w", force_zip64=True)
            _write_header(self.images, np.dtype(np.uint8), (len(self.labels), *images.shape[1:]))
        self.images.write(np.ascontiguousarray(images, dtype=np.uint8).data)
        self.written += len(images)

    def close(self) -> None:
        """End the images, which the archive needs before anything else."""
        if self.images is not None:
            self.images.close()

    def write_labels(self) -> None:
        """Write the labels behind all images."""
        if self.written != len(self.labels):
            raise ValueError(f"{self.written} images were written, expected {len(self.labels)}")
        with self.archive.open("arr_1.npy", "w") as file:
            _write_header(file, np.dtype(np.int64), self.labels.shape)
            file.write(np.ascontiguousarray(self.labels, dtype=np.int64).data)


@contextmanager
def sample_file(path: Path, labels: NDArray[np.int64]) -> Iterator[SampleFile]:
    """Write a file, which is there when all samples are; an error leaves nothing.

    Args:
        path: final place.
        labels: (n,) of all samples.
    """
    with atomic(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        file = SampleFile(archive, labels)
        try:
            yield file
        finally:
            file.close()
        file.write_labels()


def _write_header(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
