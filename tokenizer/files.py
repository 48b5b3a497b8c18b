"""Files that are there whole or not at all, and short digests. Imports no torch."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DIGITS = 12  # hexadecimal digits of a short digest


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Write a file beside its place, then rename it: a crash, a full disk or an error leaves what was there before.

    Args:
        path: final place of the file; missing folders are made.

    Yields:
        The path to write to, in the same folder and used by no other process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        yield beside
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic(path) as beside:
        beside.write_text(text)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_hash(value: Any) -> str:
    """Twelve hexadecimal digits of the SHA-256 of plain containers, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:DIGITS]
