"""Small token caches with known content."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.tokens.cache import CacheWriter

CLASSES = ["ant", "bee", "cat"]
TOKENS = {"codebook_size": 16, "groups": 2, "num_tokens": 4, "grid": [2, 2], "kind": "raster", "num_classes": 3}
ABOUT = {
    "tokens": TOKENS,
    "classes": CLASSES,
    "image_size": 16,
    "transform": "whole",
    "reference": "made",
    "views": {"crops": "as_data", "passes": 1, "flip": False},
    "seed": 0,
    "data": {"name": "digits", "config": {"image_size": 16}, "fingerprint": "0123456789ab"},
    "tokenizer": {"folder": "runs/a", "digest": "abc", "weights": "ema"},
    "precision": "fp32",
    "code_version": "1",
    "splits": {"train": {"keys": "1", "left_out": []}, "val": {"keys": "2", "left_out": []}},
}

MERGED = {**ABOUT, "tokens": {**TOKENS, "kind": "merged", "kept": [2, 4]}, "views": {**ABOUT["views"], "flip": True, "kept": [2, 4]}}


def write_cache(
    path: Path,
    images: int = 5,
    views: int = 3,
    tokens: int = 4,
    groups: int = 2,
    val_images: int = 2,
    about: dict[str, Any] = ABOUT,
) -> dict[str, NDArray[Any]]:
    """Random indices below 16, labels 0, 1, 2, 0, ...; returns the arrays."""
    random = np.random.default_rng(0)
    arrays: dict[str, NDArray[Any]] = {}
    for split, count, number in (("train", images, views), ("val", val_images, 1)):
        arrays[f"{split}/indices"] = random.integers(16, size=(count, number, tokens, groups)).astype(np.uint8)
        arrays[f"{split}/labels"] = (np.arange(count) % 3).astype(np.int32)
    write_arrays(path, arrays, about)
    return arrays


def write_merged_cache(path: Path, images: int = 5, val_images: int = 2) -> dict[str, NDArray[Any]]:
    """Images of 2 x 2 cells with two views: of two tokens, the first with one to three cells, and of four; returns the arrays."""
    random = np.random.default_rng(0)
    arrays: dict[str, NDArray[Any]] = {}
    for split, count, number in (("train", images, 2), ("val", val_images, 1)):
        arrays[f"{split}/indices"] = random.integers(16, size=(count, number, 4, 2)).astype(np.uint8)
        arrays[f"{split}/indices"][:, 0, 2:] = 0
        two = np.arange(4) > random.integers(3, size=(count, 1))
        arrays[f"{split}/assignment"] = np.stack([two, np.tile(np.arange(4), (count, 1))][:number], axis=1).astype(np.uint8)
        arrays[f"{split}/labels"] = (np.arange(count) % 3).astype(np.int32)
    write_arrays(path, arrays, MERGED)
    return arrays


def write_arrays(path: Path, arrays: dict[str, NDArray[Any]], about: dict[str, Any]) -> None:
    """Write a cache of given arrays, in pieces."""
    with CacheWriter(path, {name: ("I32" if "labels" in name else "U8", array.shape[1:]) for name, array in arrays.items()}) as writer:
        for name, array in arrays.items():
            for start in range(0, len(array), 2):
                writer.append(name, array[start : start + 2])
        writer.finish(about)
