"""Large JPEGs at the size that a crop needs: decoded at 1/2, 1/4 or 1/8, once; then read from a store of the decoded pixels."""

import hashlib
import logging
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.data.contents import cache_folder, stamp
from experiments.data.decoding import check_header, decode
from tokenizer.files import atomic

LARGE = 1 << 21  # pixels; smaller images are always decoded as a whole, so numbers of the usual data sets do not change
SPARE = 4 << 30  # bytes of disk that the store leaves free
METHOD = "JPEGs of 2 megapixels and more decoded at 1/2, 1/4 or 1/8"

log = logging.getLogger(__name__)


def scale_of(kind: str, width: int, height: int, shorter_side: int) -> int:
    """The largest of 1, 2, 4 and 8 by which a large JPEG is reduced and its shorter side is still `shorter_side` pixels."""
    if kind != "JPEG" or width * height < LARGE:
        return 1
    return max(scale for scale in (1, 2, 4, 8) if scale == 1 or min(width, height) // scale >= shorter_side)


def decode_for(path: Path, shorter_side: int) -> Image.Image:
    """An image for crops from a shorter side of at most `shorter_side` pixels, in mode RGB.

    The pixels of a reduced image are stored below the folder of caches and read from there the next time, which changes no pixel. Where
    nothing can be written, this takes only time.

    Raises:
        DataError: see `decode`.
    """
    scale = scale_of(*check_header(path), shorter_side)
    if scale == 1:
        return decode(path)
    key = f"{os.path.realpath(path)}\0{stamp(path.stat())}\0{scale}"
    name = hashlib.sha256(os.fsencode(key)).hexdigest()[:32]
    store = cache_folder() / "photographs" / name[:2] / f"{name}.npz"
    stored = _stored(store)
    if stored is None:
        stored = decode(path, scale)
        _store(store, stored)
    return stored


def _stored(path: Path) -> Image.Image | None:
    """A stored image; None if there is none or it is damaged, which its checksum shows."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            pixels = arrays["pixels"]
        return Image.fromarray(pixels) if pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 else None
    except FileNotFoundError:
        return None
    except Exception as error:  # zipfile and NumPy raise many built-in errors on damaged files
        log.debug("%s is damaged and written again: %s", path, error)
        return None


def _store(path: Path, image: Image.Image) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(path.parent).free < SPARE:
            return
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(file, pixels=np.asarray(image))
    except OSError as error:
        log.debug("%s cannot be written, so the photograph is decoded again: %s", path, error)
