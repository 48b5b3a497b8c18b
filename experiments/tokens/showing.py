"""Prints of a token cache, and the image of one of its rows. Imports no torch unless a row is decoded."""

import json
import logging
import math
from pathlib import Path

import numpy as np
from rich.table import Table

from experiments.config.errors import ConfigError
from experiments.config.settings import TokenizeSettings
from experiments.runs.terminal import console, print_line
from experiments.tokens.cache import SPLITS, CacheHeader, TokenCache

log = logging.getLogger(__name__)

MAX_NAMES = 20


def inspect(settings: TokenizeSettings) -> None:
    """Print a cache's header; decode one training image, if the tokenizer still exists."""
    file, row = str(settings.inspect), settings.sample
    cache = TokenCache(file, "inspect")
    show(cache)
    show_header(cache.header)
    images = cache.header.arrays["train/labels"].shape[0]
    if not 0 <= row < images:
        raise ConfigError("sample", row, expected=f"number of a training image, 0 .. {images - 1}")
    recorded = cache.header.about["tokenizer"]
    if not settings.tokenizer and not Path(recorded["folder"]).is_dir():
        log.warning("the tokenizer %s does not exist, no image is decoded; set tokenizer=FOLDER if it was moved", recorded["folder"])
        return
    from experiments.evaluation.figures import save_image
    from experiments.runs.devices import choose_device
    from experiments.runs.models import recorded_tokenizer
    from experiments.tokens.writing import decode_row

    model = recorded_tokenizer(recorded, settings.tokenizer, f"the cache {file}")
    output = Path(settings.output or f"{file}.train{row}.png")
    save_image(decode_row(model.to(choose_device(settings.device)), cache, "train", row), output)
    log.info("image %s", output)


def show(cache: TokenCache) -> None:
    """Print a line for each split on standard output, and the images that are left out.

    Bits are those of the indices and of the assignment of merged tokens, a mean over the views.
    """
    tokens, table = cache.header.tokens, Table()
    for title in ("split", "images", "views", "tokens", "bits per image", "usage"):
        table.add_column(title, justify="left" if title == "split" else "right")
    cells = math.prod(tokens["grid"]) if tokens["kind"] == "merged" else 0  # with an assignment
    for split in SPLITS:
        images, views = cache.header.arrays[f"{split}/indices"].shape[:2]
        kept = cache.header.token_counts(split)
        bits = np.mean([count * tokens["groups"] * np.log2(tokens["codebook_size"]) + cells * np.log2(count) for count in kept])
        usage = cache.header.about["splits"][split]["codebook_usage"]
        counted = "not counted" if usage is None else f"{100 * usage:.2f} %"
        table.add_row(split, str(images), str(views), ", ".join(map(str, sorted(set(kept)))), f"{bits:g}", counted)
    console().print(table)
    for split in SPLITS:
        left_out = cache.header.about["splits"][split]["left_out"]
        if left_out:
            print_line(f"{split}: {len(left_out)} left out, could not be read: {_first(left_out)}")
    classes = cache.header.about["classes"]
    if classes:
        counts = [np.bincount(cache.array(f"{split}/labels") + 1, minlength=len(classes) + 1)[1:] for split in SPLITS]
        pairs = [f"{name} {' + '.join(str(count[number]) for count in counts)}" for number, name in enumerate(classes)]
        print_line(f"{len(classes)} classes, train + val: {_first(pairs)}")


def show_header(header: CacheHeader) -> None:
    """Print the arrays and all other entries of a header."""
    table = Table()
    for title in ("array", "dtype", "shape", "offset"):
        table.add_column(title)
    for name, array in header.arrays.items():
        table.add_row(name, array.dtype, " x ".join(map(str, array.shape)), str(array.offset))
    console().print(table)
    for name, value in header.about.items():
        if name not in ("classes", "splits"):
            print_line(f"{name}: {value if isinstance(value, str | int) else json.dumps(value)}")


def _first(names: list[str]) -> str:
    return ", ".join(names[:MAX_NAMES]) + (" ..." if len(names) > MAX_NAMES else "")
