"""Figures of results: originals, reconstructions and errors in rows."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.utils import make_grid

from experiments.data.transforms import to_bytes
from tokenizer.files import atomic

GAIN = 4  # factor of errors, which are drawn around gray
SMALLEST_TILE = 128  # smaller images are enlarged by a whole factor, pixel by pixel
CAPTION = 16  # pixels


def comparison(images: Tensor, reconstructions: Tensor) -> Image.Image:
    """Originals above reconstructions above errors, both (B, 3, H, W) in [-1, 1], B > 0."""
    images, reconstructions = images.float().cpu(), reconstructions.float().cpu().clamp(-1, 1)
    error = (GAIN * (reconstructions - images)).clamp(-1, 1)
    return captioned_rows({"original": images, "reconstruction": reconstructions, f"error, {GAIN} times": error})


def captioned_rows(rows: Mapping[str, Tensor]) -> Image.Image:
    """Rows of images (n, 3, H, W) in [-1, 1] on the CPU, n > 0, one below the other, each under its caption."""
    strips = [_captioned(name, row) for name, row in rows.items()]
    sheet = Image.new("RGB", (max(strip.width for strip in strips), sum(strip.height for strip in strips)), "white")
    for place, strip in enumerate(strips):
        sheet.paste(strip, (0, place * strip.height))
    return sheet


def _captioned(caption: str, images: Tensor) -> Image.Image:
    factor = -(-SMALLEST_TILE // min(images.shape[-2:]))
    enlarged = images.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    grid = make_grid(enlarged, nrow=len(images), padding=2, pad_value=1.0)
    pixels = to_bytes((grid + 1) / 2).permute(1, 2, 0).numpy()
    strip = Image.new("RGB", (pixels.shape[1], pixels.shape[0] + CAPTION), "white")
    ImageDraw.Draw(strip).text((3, 1), caption, fill="black")
    strip.paste(Image.fromarray(pixels), (0, CAPTION))
    return strip


def save_image(image: Image.Image, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with atomic(path) as beside:
        image.save(beside, format="PNG")
