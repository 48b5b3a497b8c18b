"""Zip archives, such as npz files, that may come from anybody: bounds on what they expand to. Imports no torch."""

import zipfile
from pathlib import Path

from experiments.config.errors import DataError
from experiments.data.files import check_file

MOST_BYTES = 1 << 36  # 64 GiB; 50,000 images of 512 x 512 pixels are 37 GiB
SMALL_BYTES = 1 << 26  # 64 MiB may be compressed to any size
MOST_EXPANSION = 100  # times the size of the file; zip reaches 1000 for constant bytes, photographs 2


def check_archive(path: Path, key: str, expected: str) -> list[str]:
    """Names of the entries of an archive whose declared sizes are within the bounds; an entry never expands beyond its declared size.

    Args:
        path: the file.
        key: its configuration key, for messages.
        expected: description of the file.

    Raises:
        DataError: it is no regular file, no archive, or its entries are larger in all than the bounds allow.
    """
    check_file(path, key, expected)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # zipfile raises many built-in errors on damaged files
        raise DataError(path, f"it is no archive ({_one_line(error)}); expected {expected}", key) from error
    expanded, size = sum(entry.file_size for entry in entries), path.stat().st_size
    most = min(MOST_BYTES, max(SMALL_BYTES, MOST_EXPANSION * size))
    if expanded > most:
        reason = f"it has {size:,} bytes that expand to {expanded:,}, expected at most {most:,}"
        raise DataError(path, f"{reason}: {MOST_EXPANSION} times its size, and {MOST_BYTES:,} in all", key)
    return [entry.filename for entry in entries]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
