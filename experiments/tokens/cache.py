"""Token cache: one safetensors file of tokenized images, written in pieces, read through memory maps. Imports no torch.

Format (https://github.com/huggingface/safetensors): 8 bytes, the length of the header; the header, JSON, every array by name with its
dtype, shape and offset behind the header; the arrays without gaps, the widest numbers first, so that each is aligned. The meaning of
the arrays is JSON text under `tessera` in the header's `__metadata__`.

Arrays: `train/indices` and `val/indices` (images, views, N, G) in the narrowest type that holds V, `train/labels` and `val/labels`
(images,) int32, -1 where there is none. Of merged tokens also `train/assignment` and `val/assignment` (images, views, L), the token of
each cell, in the narrowest type that holds N; N is the largest number of tokens of a view, and the indices of the others are padded by 0.

The SHA-256 of the arrays and of the rest of the header are in `__metadata__` too, except in files of earlier versions.
Version 2 added merged tokens; files of version 1, which are the same without them, are read too.
"""

import functools
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.config.errors import DataError
from experiments.config.parsing import parse_json
from experiments.runs.folder import RunFolder
from experiments.runs.kinds import as_reason
from experiments.tokens.header import (
    DATA_DIGEST,
    DTYPES,
    HEADER_DIGEST,
    StoredArray,
    check_header,
    check_places,
    header_digest,
    stored_array,
    verified_digest,
)
from tokenizer.files import DIGITS, other_kind, short_hash

log = logging.getLogger(__name__)

VERSION, READABLE = 2, (1, 2)
SPLITS = ("train", "val")
LARGEST_HEADER = 100_000_000  # bytes, as the safetensors library has it
PIECE = 1 << 24


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
        start: first byte of the arrays.
        digest: recorded SHA-256 of the arrays; None in a file of an earlier version.
    """

    path: Path
    arrays: dict[str, StoredArray]
    about: dict[str, Any]
    start: int
    digest: str | None

    @property
    def tokens(self) -> dict[str, Any]:
        """The fields of the TokenSpec."""
        return dict(self.about["tokens"])

    def token_counts(self, split: str) -> list[int]:
        """Number of tokens of each view of a split."""
        return token_counts(self.about, self.arrays[f"{split}/indices"].shape[1])

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits of the arrays and of everything that determines the indices, but no path."""
        shapes = {name: [array.dtype, array.shape] for name, array in sorted(self.arrays.items())}
        return short_hash([identity_of(self.about), shapes, self.digest or self.data_digest()])

    def data_digest(self) -> str:
        """SHA-256 of the arrays as they are in the file."""
        status = self.path.stat()
        return _data_digest(self.path, self.start, status.st_size, status.st_mtime_ns, status.st_ino)

    def verify(self, key: str = "data.file") -> None:
        """Compare the arrays with their recorded digest; the whole file is read.

        Raises:
            DataError: they differ.
        """
        if self.digest is None:
            log.warning("%s has no checksum, as those of earlier versions: damage is not noticed", self.path)
        elif self.data_digest() != self.digest:
            reason = f"its arrays have the SHA-256 {self.data_digest()[:DIGITS]}, expected {self.digest[:DIGITS]}"
            raise _refusal(self.path, key, f"it is damaged, {reason}; tokenize again")


@functools.cache
def _data_digest(path: Path, start: int, size: int, modified_ns: int, inode: int) -> str:
    with open(path, "rb") as file:
        file.seek(start)
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    """The header of a cache, checked by itself and against the size of its file.

    Args:
        path: the file.
        key: configuration key of the file, for messages.

    Raises:
        DataError: there is no such file, or it is no cache, truncated, of another version, or its header is damaged.
    """
    path = Path(path)
    try:
        if kind := other_kind(path):
            raise _refusal(path, key, as_reason(path) or f"it is {kind}")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length <= min(size, LARGEST_HEADER) else b""
    except OSError as error:
        raise _refusal(path, key, str(error.strerror)) from error
    try:
        content = parse_json(text.decode())
        metadata = content.pop("__metadata__")
        about = parse_json(metadata["tessera"])
        version = about["version"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"its {size} bytes do not begin with a complete header"
        raise _refusal(path, key, reason if looks_like_cache(path) else as_reason(path) or reason) from error
    if version not in READABLE:
        raise _refusal(path, key, f"it has version {version}, this code reads versions {READABLE[0]} to {READABLE[-1]}; tokenize again")
    try:
        digest = verified_digest(metadata, content)
        arrays = {name: stored_array(name, entry, 8 + length) for name, entry in content.items()}
        check_places(arrays, 8 + length, size)
        check_header(about, {name: (array.dtype, array.shape) for name, array in arrays.items()})
    except ValueError as error:
        raise _refusal(path, key, f"it is damaged, it has {size} bytes and {error}; tokenize again") from error
    return CacheHeader(path, arrays, about, 8 + length, digest)


def looks_like_cache(path: Path) -> bool:
    """Whether a file begins as a cache does, whole or damaged."""
    with open(path, "rb") as file:
        return file.read(64)[8:].startswith(b'{"__metadata__": {"tessera": ')


def _refusal(path: Path, key: str, reason: str) -> DataError:
    return DataError(path, f"expected a token cache, as `python -m experiments.tokenize` writes it; {reason}", key)


class TokenCache:
    """A cache on disk; only the header is in memory."""

    def __init__(self, path: str | Path, key: str = "data.file") -> None:
        """Read the header and verify the arrays; see `read_header` and `CacheHeader.verify`."""
        self.header = read_header(path, key)
        self.header.verify(key)

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
        whole, digest = self.folder / "whole.part", hashlib.sha256()
        with open(whole, "wb") as file:
            file.write(self._header(order, about, digest.hexdigest()))  # as long as the final one
            for name in order:
                with open(self._part(name), "rb") as part:
                    while piece := part.read(PIECE):
                        digest.update(piece)
                        file.write(piece)
                self._part(name).unlink()
            file.seek(0)
            file.write(self._header(order, about, digest.hexdigest()))
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

    def _header(self, order: list[str], about: Mapping[str, Any], digest: str) -> bytes:
        """The header behind its length, padded so that the arrays are aligned."""
        arrays: dict[str, Any] = {}
        offset = 0
        for name in order:
            dtype, shape = self.rows[name]
            array = StoredArray(dtype, (self.counts[name], *shape), offset)
            arrays[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [offset, offset := offset + array.size]}
        described = json.dumps({"version": VERSION, **about})
        metadata = {"tessera": described, DATA_DIGEST: digest, HEADER_DIGEST: header_digest(described, digest, arrays)}
        text = json.dumps({"__metadata__": metadata, **arrays}).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text
