"""Atomic file writes and SHA-256 digests. Imports only the standard library."""

import errno
import functools
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

DIGITS = 12  # hexadecimal digits of a short hash
SEAL = "sha256"  # key of a file's own checksum
SEAL_TRACE, SEAL_CHARACTERS = re.compile(r"sha256|[0-9a-f]{64}"), 100  # one changed character leaves the word or the digits


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make a folder with its parents; those that were made are removed again if the block leaves them empty."""
    new = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # its parent is there: the file system has no new folders, as /proc
            raise PermissionError(errno.EPERM, "no folder can be made there", str(folder)) from error
        yield
    finally:
        with suppress(OSError):  # it is not empty
            for each in new:
                each.rmdir()


@contextmanager
def atomic(path: Path, needed: int | None = None) -> Iterator[Path]:
    """Write a file completely or not at all.

    Yields a hidden temporary path in the same folder, unique to the process and the call. It replaces `path` when the block ends, or is
    removed if the block fails.

    Args:
        path: file to write; missing parent folders are created.
        needed: size of the file in bytes, if known, for messages.

    Raises:
        OSError: the file cannot be written; `filename` is its path, or that of a folder that cannot be made; `needed` is as given.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    with made_folder(path.parent):
        try:
            with naming(path, needed):
                yield temporary
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
                os.replace(temporary, path)
        finally:
            with suppress(OSError):  # a reason that it could not be written, which is the error to report
                temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path, needed: int | None = None) -> Iterator[None]:
    """Name `path`, and the bytes that it needs, in an OSError of the block that names no file, or a temporary one beside `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or Path(str(error.filename)).name.startswith(f".{path.name}.")):
            error.filename, error.filename2 = str(path), None
            error.needed = needed  # type: ignore[attr-defined]
        raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic(path, len(content)) as temporary:
        temporary.write_bytes(content)


def kind_of(mode: int) -> str:
    """The type of a file by its mode, for messages."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFREG: "a file"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def other_kind(path: Path) -> str:
    """The type of what a path leads to if that is no regular file: opening a pipe would wait without end, reading a device never ends.

    Empty for a regular file, and for what does not exist or cannot be inspected, which opening it shows.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""
    return "" if stat.S_ISREG(mode) else kind_of(mode)


def sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits; cached until the file's size or modification time changes.

    Raises:
        ValueError: it is no regular file.
        OSError: it cannot be read.
    """
    if kind := other_kind(path):
        raise ValueError(f"{path} is {kind}, expected a regular file")
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@functools.cache
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_hash(value: Any) -> str:
    """First `DIGITS` hexadecimal digits of the SHA-256 of plain containers, encoded as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:DIGITS]


def content_sha256(content: Any) -> str:
    """SHA-256 of plain containers in hexadecimal digits, the same before and after they are written as JSON or YAML."""
    return hashlib.sha256(json.dumps(json.loads(json.dumps(content)), sort_keys=True).encode()).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Keys and values with their own checksum under the first key, `sha256`; `unsealed` verifies it."""
    return {SEAL: content_sha256(content), **content}


def unsealed(content: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Keys and values of a file without their checksum, which is verified. A file of an earlier version has none.

    Args:
        content: content of the file.
        text: text of the file; a damaged checksum at its beginning is no absent one.

    Raises:
        ValueError: the checksum is damaged, or is not that of the content.
    """
    plain = {name: value for name, value in content.items() if name != SEAL}
    if SEAL in content:
        digest = content_sha256(plain)
        if content[SEAL] != digest:
            reason = f"its sha256 is {digest[:DIGITS]}, expected {str(content[SEAL])[:DIGITS]}"
            raise ValueError(f"it is damaged or was edited: {reason}; without the entry sha256 it is read unverified")
    elif SEAL_TRACE.search(text[:SEAL_CHARACTERS]):
        raise ValueError("it is damaged: the entry sha256 at its beginning cannot be read")
    return plain
