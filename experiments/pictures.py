"""Pictures of results: originals, reconstructions and their difference in rows."""

import os
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.utils import make_grid

GAIN = 4
"""The error is shown this many times as large, around grey."""


def comparison(images: Tensor, rows: dict[str, Tensor], columns: int = 8) -> Image.Image:
    """Originals above reconstructions above errors.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        rows: name to reconstructions (B, 3, H, W); each gives a row of pictures and a row of errors.
        columns: pictures side by side; the first ones of the batch.
    """
    images = images[:columns].float().cpu()
    lines = {"original": images}
    for name, reconstruction in rows.items():
        reconstruction = reconstruction[:columns].float().cpu().clamp(-1, 1)
        lines[name] = reconstruction
        lines[f"{name}: error x{GAIN}"] = (GAIN * (reconstruction - images)).clamp(-1, 1)
    grids = [_captioned(name, make_grid(line, nrow=columns, padding=2, pad_value=1.0)) for name, line in lines.items()]
    sheet = Image.new("RGB", (max(grid.width for grid in grids), sum(grid.height for grid in grids)), "white")
    top = 0
    for grid in grids:
        sheet.paste(grid, (0, top))
        top += grid.height
    return sheet


def _captioned(caption: str, grid: Tensor) -> Image.Image:
    pixels = ((grid + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    sheet = Image.new("RGB", (pixels.shape[1], pixels.shape[0] + 14), "white")
    ImageDraw.Draw(sheet).text((3, 1), caption, fill="black")
    sheet.paste(Image.fromarray(pixels), (0, 14))
    return sheet


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    picture.save(beside, format="PNG")
    os.replace(beside, path)
