"""Samples as ADM's evaluation reads them: an npz file with `arr_0` (n, H, W, 3) uint8 and `arr_1` (n,) int64 labels.

Source of the form: Dhariwal and Nichol 2021, arXiv:2105.05233. Pictures are written as they come, never all in memory: fifty
thousand of 256 x 256 pixels are 9.8 GB. `numpy.load` reads it.
"""

import os
import zipfile
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray


class SampleFile(AbstractContextManager["SampleFile"]):
    """Written beside its place, and renamed when all samples are there; if something goes wrong nothing is left."""

    def __init__(self, path: Path, labels: NDArray[np.int64]) -> None:
        """Write to `path`, as many pictures as there are labels."""
        self.path = path
        self.labels = labels
        self.beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self.written = 0
        self.archive: zipfile.ZipFile | None = None
        self.pictures: IO[bytes] | None = None

    def __enter__(self) -> "SampleFile":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.archive = zipfile.ZipFile(self.beside, "w", zipfile.ZIP_STORED, allowZip64=True)
        return self

    def write(self, pictures: NDArray[np.uint8]) -> None:
        """The next pictures, (B, H, W, 3)."""
        assert self.archive is not None
        if self.pictures is None:
            # The size is not known to zipfile, and a file that turns out larger than 2 GiB would fail without force_zip64.
            self.pictures = self.archive.open("arr_0.npy", "w", force_zip64=True)
            _write_header(self.pictures, np.dtype(np.uint8), (len(self.labels), *pictures.shape[1:]))
        self.pictures.write(np.ascontiguousarray(pictures, dtype=np.uint8).data)
        self.written += len(pictures)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self.archive is not None
        whole = kind is None and self.written == len(self.labels)
        try:
            if self.pictures is not None:
                self.pictures.close()
            if whole:
                with self.archive.open("arr_1.npy", "w") as file:
                    _write_header(file, np.dtype(np.int64), self.labels.shape)
                    file.write(np.ascontiguousarray(self.labels, dtype=np.int64).data)
            self.archive.close()
            if whole:
                os.replace(self.beside, self.path)
        finally:
            self.beside.unlink(missing_ok=True)
        if kind is None and not whole:
            raise ValueError(f"{self.path}: {self.written} pictures were written, expected {len(self.labels)}")


def _write_header(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
