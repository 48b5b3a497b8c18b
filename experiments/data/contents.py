"""Digests and sizes of image files, stored so that an unchanged folder is not read again."""

import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from experiments.data.decoding import FORMATS
from tokenizer.files import DIGITS, write_text

WHOLE = 1 << 16  # bytes of the largest file that is read as a whole
BLOCK, BLOCKS = 1 << 12, 16  # of a larger file, the first and the last block and evenly spaced ones between are read
RECENT = 10**9  # nanoseconds: a file that changed so shortly before could change again within one tick of its file system's clock
THREADS = 8  # reading small files over a network is waiting

log = logging.getLogger(__name__)


class Content(NamedTuple):
    """Digest of a file's bytes, and format, height and width of its image, if it has one; all empty for what is no readable file."""

    digest: str = ""
    kind: str = ""
    height: int = 0
    width: int = 0


def cache_folder() -> Path:
    """Folder of what can be computed again; it may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tessera"


def stamp(status: os.stat_result) -> list[int]:
    """What changes whenever the bytes of a file change: the time of the last change of its entry cannot be set by a program."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def contents(root: Path, files: Mapping[str, os.stat_result | None]) -> dict[str, Content]:
    """The content of each file; only files that changed since the last call, in this or another process, are read.

    Args:
        root: folder of the files.
        files: names relative to it, with their status.
    """
    store = cache_folder() / "contents" / f"{hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:DIGITS]}.json"
    old = _stored(store)
    found, pending = {}, []
    for name, status in files.items():
        if status is None or not stat.S_ISREG(status.st_mode):
            found[name] = Content()
        elif name in old and old[name][:4] == stamp(status):
            found[name] = Content(*old[name][4:])
        else:
            pending.append(name)
    if pending:
        now = time.time_ns()
        if len(pending) > 1000:
            log.info("reading parts of %d files for the identity of the data; unchanged files are not read again", len(pending))
        with ThreadPoolExecutor(THREADS) as pool:
            found.update(zip(pending, pool.map(content_of, [root / name for name in pending], chunksize=32), strict=True))
        stored = {}
        for name, status in files.items():
            if status is not None and found[name].digest and now - max(status.st_mtime_ns, status.st_ctime_ns) > RECENT:
                stored[name] = [*stamp(status), *found[name]]
        try:
            write_text(store, json.dumps(stored))
        except OSError as error:
            log.debug("%s cannot be written, so files are read again: %s", store, error)
    return {name: found[name] for name in files}


def _stored(path: Path) -> dict[str, list[Any]]:
    """Entries of the last call: stamp, then content; empty if there are none or they are damaged."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        sound = all(isinstance(entry, list) and len(entry) == 8 and isinstance(entry[4], str) for entry in entries.values())
        return dict(entries) if sound else {}
    except (OSError, ValueError, AttributeError):
        return {}


def content_of(path: Path) -> Content:
    """Digest of a regular file's size and bytes, of a large file of blocks of it, and its image's size from the header."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.blake2b(str(size).encode(), digest_size=16)
            if size <= WHOLE:
                digest.update(file.read())
            else:
                for number in range(BLOCKS):
                    file.seek((size - BLOCK) * number // (BLOCKS - 1))
                    digest.update(file.read(BLOCK))
            return Content(digest.hexdigest(), *_header(file))
    except OSError:
        return Content()


def _header(file: object) -> tuple[str, int, int]:
    try:
        with Image.open(file, formats=FORMATS) as image:  # type: ignore[arg-type]
            return str(image.format), image.height, image.width
    except Exception:  # Pillow's readers raise nearly every built-in error on damaged files
        return "", 0, 0
