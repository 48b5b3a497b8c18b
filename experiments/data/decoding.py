"""Any image file to 8-bit RGB, or one clear error.

Choices: EXIF rotation is applied; transparent pixels are blended with white; 16-bit gray is scaled, not clipped; only the first frame of
an animation is read; color profiles are ignored, as in the papers' pipelines. A damaged file is never half decoded.
"""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from experiments.config.errors import DataError
from tokenizer.files import kind_of

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # a closed list: Pillow would start a program for EPS
MAX_PIXELS = 89_478_485  # 256 MiB of RGB, the size from which Pillow suspects a decompression bomb
MAX_SIDE_RATIO = 100  # a longer strip would grow beyond memory when its shorter side is resized


def decode(path: Path, scale: int = 1) -> Image.Image:
    """The image in mode RGB.

    Args:
        path: a regular file, or a link to one.
        scale: of a JPEG, decode one pixel for each square of 2, 4 or 8 pixels a side, in a fraction of the time; 1 for all pixels.

    Raises:
        DataError: not a regular file, not an image, a damaged one, one of too many pixels, or one whose values have no defined range.
    """
    with opened(path) as image:
        if scale > 1:
            image.draft(None, (image.width // scale, image.height // scale))
        return to_rgb(upright(image))


def check_header(path: Path) -> tuple[str, int, int]:
    """Format, width and height of an image, before EXIF rotation.

    Raises:
        DataError: not a regular file, not an image, or one of too many pixels.
    """
    with opened(path) as image:
        return str(image.format), image.width, image.height


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The image, of which the header has been read and checked; an error in the block is one of the file.

    Raises:
        DataError: not a regular file, which could wait without end, not an image, or another error in the block.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise DataError(path, f"cannot be read: {kind_of(mode)}, not a regular file")
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_size(image)
            yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        reason = "an empty file" if path.stat().st_size == 0 else f"not an image in one of {', '.join(FORMATS)}"
        raise DataError(path, f"cannot be read: {reason}") from error
    except Exception as error:  # Pillow's readers raise nearly every built-in error on damaged files
        raise DataError(path, f"cannot be read: {str(error) or type(error).__name__}") from error


def check_size(image: Image.Image) -> None:
    """Refuse by the header alone, before memory is taken.

    Raises:
        ValueError: too many pixels, or one side is too long for the other.
    """
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels are more than {MAX_PIXELS}: a decompression bomb?")
    if max(width, height) > MAX_SIDE_RATIO * min(width, height):
        raise ValueError(f"{width} x {height} pixels: one side is more than {MAX_SIDE_RATIO} times the other")


def upright(image: Image.Image) -> Image.Image:
    """The image rotated by its EXIF orientation; an image with unreadable EXIF data is not rotated."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata raises nearly every built-in error
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of an image in any of Pillow's modes.

    Raises:
        ValueError: floating-point or 32-bit pixels, whose white is not defined.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "F" or (image.mode == "I" and not in_16_bits(image)):
        raise ValueError(f"pixels of mode {image.mode} have no defined white")
    if image.mode.startswith("I"):
        return gray_from_16_bits(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def in_16_bits(image: Image.Image) -> bool:
    """Whether an image of 32-bit integers has only 16-bit values: Pillow opens some 16-bit files so."""
    values = np.asarray(image)
    return bool(values.min() >= 0 and values.max() <= 65535)


def gray_from_16_bits(image: Image.Image) -> Image.Image:
    """0 .. 65535 to 0 .. 255, rounded."""
    values = np.asarray(image).astype(np.int32)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
