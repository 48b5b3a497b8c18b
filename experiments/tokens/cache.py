"""Token cache: one safetensors file of tokenized images, written in pieces, read through memory maps. Imports no torch.

Format (https://github.com/huggingface/safetensors): 8 bytes, the length of the header; the header, JSON, every array by name with its
dtype, shape and offset behind the header; the arrays without gaps, the widest numbers first, so that each is aligned. The meaning of
the arrays is JSON text under `tessera` in the header's `__metadata__`.

Arrays: `train/indices` and `val/indices` (images, views, N, G) in the narrowest type that holds V, `train/labels` and `val/labels`
(images,) int32, -1 where there is none. Of merged tokens also `train/assignment` and `val/assignment` (images, views, L), the token of
each cell, in the narrowest type that holds N; N is the largest number of tokens of a view, and the indices of the others are padded by 0.

Version 2 added merged tokens; files of version 1, which are the same without them, are read too.
"""

import json
import math
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.config.errors import DataError
from experiments.runs.folder import RunFolder
from tokenizer.files import short_hash

VERSION, READABLE = 2, (1, 2)
SPLITS = ("train", "val")
DTYPES = {"U8": "<u1", "U16": "<u2", "U32": "<u4", "I32": "<i4", "I64": "<i8"}
LARGEST_HEADER = 100_000_000  # bytes, as the safetensors library has it
PIECE = 1 << 24


@dataclass(frozen=True)
class StoredArray:
    """An array of a cache: safetensors' name of its dtype, shape, and the first byte in the file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of bytes."""
        return math.prod(self.shape) * np.dtype(DTYPES[self.dtype]).itemsize


@dataclass(frozen=True)
class CacheHeader:
    """Header of a cache.

    Attributes:
        path: the file.
        arrays: by name.
        about: `version`, `tokens` (fields of a TokenSpec), `classes` (names or None), `image_size`, `transform` and `reference` of the
            evaluation images, `views` (crops of the training images; of merged tokens also `kept`, the number of tokens of each view),
            `seed`, `data` {name, config, fingerprint}, `tokenizer` {folder, digest, weights}, `precision`, `code_version`,
            `splits` {train, val}, each with the digest of its `keys` and the names `left_out`.
    """

    path: Path
    arrays: dict[str, StoredArray]
    about: dict[str, Any]

    @property
    def tokens(self) -> dict[str, Any]:
        """The fields of the TokenSpec."""
        return dict(self.about["tokens"])

    def token_counts(self, split: str) -> list[int]:
        """Number of tokens of each view of a split."""
        return token_counts(self.about, self.arrays[f"{split}/indices"].shape[1])

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits of everything that determines the indices, but no path."""
        shapes = {name: [array.dtype, array.shape] for name, array in sorted(self.arrays.items())}
        return short_hash([identity_of(self.about), shapes])


def identity_of(about: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a header's `about` that determines the indices."""
    alike = {name: about[name] for name in ("tokens", "image_size", "views", "seed", "precision")}
    return {**alike, "data": about["data"]["fingerprint"], "tokenizer": about["tokenizer"]["digest"]}


def token_counts(about: Mapping[str, Any], views: int) -> list[int]:
    """Number of tokens of the first `views` views; the one view of evaluation images has that of the first view of training images."""
    kept = about["views"].get("kept") or [about["tokens"]["num_tokens"]] * views
    return list(kept[:views])


def dtype_for(count: int) -> str:
    """safetensors' name of the narrowest type for 0 .. count - 1."""
    return next((name for name, bits in (("U8", 8), ("U16", 16), ("U32", 32)) if count <= 1 << bits), "I64")


def read_header(path: str | Path, key: str = "data.file") -> CacheHeader:
    """The header of a cache, checked against the size of its file.

    Args:
        path: the file.
        key: configuration key of the file, for messages.

    Raises:
        DataError: there is no such file, or it is no cache, truncated, or of another version.
    """
    path = Path(path).expanduser()
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length <= min(size, LARGEST_HEADER) else b""
    except OSError as error:
        raise _refusal(path, key, str(error.strerror)) from error
    try:
        content = json.loads(text)
        about = json.loads(content.pop("__metadata__")["tessera"])
        arrays = {name: _array(entry, 8 + length) for name, entry in content.items()}
        version, end = about["version"], max(array.offset + array.size for array in arrays.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refusal(path, key, f"its {size} bytes do not begin with a complete header") from error
    if version not in READABLE:
        raise _refusal(path, key, f"it has version {version}, this code reads versions {READABLE[0]} to {READABLE[-1]}; tokenize again")
    if end != size:
        raise _refusal(path, key, f"it is damaged, it has {size} bytes of {end}; tokenize again")
    return CacheHeader(path, arrays, about)


def looks_like_cache(path: Path) -> bool:
    """Whether a file begins as a cache does, whole or damaged."""
    with open(path, "rb") as file:
        return file.read(64)[8:].startswith(b'{"__metadata__": {"tessera": ')


def _array(entry: Mapping[str, Any], start: int) -> StoredArray:
    """An entry of the header; `start` is the first byte behind the header."""
    begin, end = entry["data_offsets"]
    array = StoredArray(entry["dtype"], tuple(entry["shape"]), start + begin)
    if array.size != end - begin:
        raise ValueError  # like any other damage, see `read_header`
    return array


def _refusal(path: Path, key: str, reason: str) -> DataError:
    return DataError(path, f"expected a token cache, as `python -m experiments.tokenize` writes it; {reason}", key)


class TokenCache:
    """A cache on disk; only the header is in memory."""

    def __init__(self, path: str | Path, key: str = "data.file") -> None:
        """Read the header; see `read_header`."""
        self.header = read_header(path, key)

    def array(self, name: str) -> NDArray[Any]:
        """A read-only memory map of an array."""
        stored = self.header.arrays[name]
        if stored.size == 0:  # an empty array cannot be mapped
            return np.empty(stored.shape, DTYPES[stored.dtype])
        return np.asarray(np.memmap(self.header.path, DTYPES[stored.dtype], "r", stored.offset, stored.shape))


class CacheWriter:
    """Writes a cache in constant memory. The arrays grow in a folder beside the file, which is written whole or not at all.

    A `with` block locks that folder for this process; it is removed at the end, or emptied at the next start if this process was killed.
    """

    def __init__(self, path: Path, rows: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        """
        Args:
            path: the file to write.
            rows: dtype, by safetensors' name, and shape of one row of every array, by name.
        """
        self.path = path
        self.folder = path.with_name(f"{path.name}.parts")
        self.rows = dict(rows)
        self.counts = dict.fromkeys(rows, 0)
        self.lock = RunFolder(self.folder).lock()

    def __enter__(self) -> "CacheWriter":
        """Lock the folder.

        Raises:
            RunFolderError: another process writes the same file.
        """
        self.lock.__enter__()
        for leftover in self.folder.glob("*.part"):
            leftover.unlink()
        for name in self.rows:
            self._part(name).touch()
        return self

    def append(self, name: str, rows: NDArray[Any]) -> None:
        """Add rows to an array."""
        dtype, shape = self.rows[name]
        assert rows.shape[1:] == shape
        with open(self._part(name), "ab") as part:
            part.write(np.ascontiguousarray(rows, DTYPES[dtype]).tobytes())
        self.counts[name] += len(rows)

    def finish(self, about: Mapping[str, Any]) -> None:
        """Join the arrays behind the header and rename the file. Needs disk space for the largest array twice."""
        order = sorted(self.rows, key=lambda name: -np.dtype(DTYPES[self.rows[name][0]]).itemsize)
        whole = self.folder / "whole.part"
        with open(whole, "wb") as file:
            text = self._header(order, about)
            file.write(len(text).to_bytes(8, "little") + text)
            for name in order:
                with open(self._part(name), "rb") as part:
                    shutil.copyfileobj(part, file, PIECE)
                self._part(name).unlink()
            file.flush()
            os.fsync(file.fileno())
        os.replace(whole, self.path)

    def __exit__(self, *error: object) -> None:
        """Remove everything but the finished file."""
        for leftover in self.folder.glob("*.part"):
            leftover.unlink()
        self.lock.__exit__(None, None, None)
        with suppress(OSError):  # the next writer may have locked it already
            self.folder.rmdir()

    def _part(self, name: str) -> Path:
        return self.folder / f"{name.replace('/', '_')}.part"

    def _header(self, order: list[str], about: Mapping[str, Any]) -> bytes:
        content: dict[str, Any] = {"__metadata__": {"tessera": json.dumps({"version": VERSION, **about})}}
        offset = 0
        for name in order:
            dtype, shape = self.rows[name]
            array = StoredArray(dtype, (self.counts[name], *shape), offset)
            content[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [offset, offset := offset + array.size]}
        text = json.dumps(content).encode()
        return text + b" " * (-len(text) % 8)
