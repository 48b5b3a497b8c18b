"""Checkpoint files as bytes: which there are, and whether one is what was written. Imports no torch.

A checkpoint is a zip archive, whose comment is the SHA-256 of everything before it: no changed bit and no cut goes unnoticed.
"""

import functools
import hashlib
import os
import re
import zipfile
from pathlib import Path
from typing import IO

from experiments.config.errors import DamagedFile
from tokenizer.files import other_kind

NAME = re.compile(r"updates_(\d{8,})\.ckpt")
LABEL = b"sha256:"
SEAL = len(LABEL) + 64  # bytes of the comment
END, END_BYTES = b"PK\x05\x06", 22  # of a zip archive without a comment
BLOCK = 1 << 20


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first; none if there is no folder.

    Raises:
        OSError: the system does not let the folder be listed.
    """
    try:
        names = os.listdir(folder)  # `Path.glob` finds nothing in a folder that it may not read
    except FileNotFoundError:
        return []
    return sorted((folder / name for name in names if NAME.fullmatch(name)), key=updates_of)


def updates_of(path: Path) -> int:
    """The update that a checkpoint file is named after."""
    return int(path.stem.removeprefix("updates_"))


def seal(path: Path) -> None:
    """Append the digest of a zip archive to it."""
    with open(path, "r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(SEAL.to_bytes(2, "little"))  # length of the comment
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0, os.SEEK_END)
        file.write(LABEL + digest.encode())


def verify(path: Path) -> None:
    """Compare a checkpoint with its digest; once, until size or time of the file changes.

    Raises:
        DamagedFile: it is not what was written.
        OSError: the system does not let it be read.
    """
    if kind := other_kind(path):
        raise DamagedFile(path, f"it is {kind}, expected a regular file")
    status = path.stat()
    _verify(path.absolute(), status.st_size, status.st_mtime_ns)


def is_whole(path: Path) -> bool:
    """Whether a checkpoint exists and is what was written."""
    try:
        verify(path)
    except (FileNotFoundError, DamagedFile):
        return False
    return True


@functools.cache
def _verify(path: Path, size: int, modified_ns: int) -> None:
    if not size:
        raise DamagedFile(path, "it is empty")
    with open(path, "rb") as file:
        file.seek(max(0, size - SEAL))
        end = file.read()
        if end.startswith(LABEL):
            file.seek(0)
            if _digest(file, size - SEAL) != end.removeprefix(LABEL):
                raise DamagedFile(path, "its content differs from its SHA-256")
        elif not end[-END_BYTES:].startswith(END):
            raise DamagedFile(path, "it ends without its SHA-256: it is cut short or no checkpoint")
    is_sealed = end.startswith(LABEL)  # one of an older version has checksums of its entries alone
    try:
        with zipfile.ZipFile(path) as archive:
            expanded = sum(entry.file_size for entry in archive.infolist())
            bomb = expanded > size  # torch compresses nothing
            damaged = None if bomb or is_sealed else archive.testzip()
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DamagedFile(path, f"it is no whole archive ({' '.join(str(error).split())})") from error
    if bomb:
        raise DamagedFile(path, f"it holds {expanded:,} bytes in a file of {size:,}")
    if damaged is not None:
        raise DamagedFile(path, f"the checksum of its entry {damaged} differs")


def _digest(file: IO[bytes], size: int) -> bytes:
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, BLOCK))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest().encode()
