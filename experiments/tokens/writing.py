"""From pictures to a token cache, and from a row of a cache back to a picture."""

import hashlib
import logging
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from experiments.data.loading import leave_signals_to_training
from experiments.data.source import ImageSource
from experiments.data.transforms import normalize
from experiments.evaluation.cards import code_version
from experiments.evaluation.figures import captioned_rows
from experiments.evaluation.metrics.codebook import MAX_COUNTED_CODES, CodebookCounts, usage
from experiments.runs.terminal import progress
from experiments.tokens.cache import DTYPES, CacheWriter, TokenCache, dtype_for
from experiments.tokens.cached import spec_of
from experiments.tokens.crops import EvaluationViews, Views
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import ImageBatch, TokenSpec

log = logging.getLogger(__name__)


def tokens_of(model: ImageTokenizer, source: ImageSource) -> TokenSpec:
    """What the tokenizer makes of the pictures.

    Raises:
        ValueError: their size does not fit, or the tokenizer merges tokens, which differs from picture to picture.
    """
    tokens = model.tokens(source.image_size, len(source.classes or []))
    if tokens.kind == "merged":
        raise ValueError("this tokenizer merges tokens, a cache has no place for their assignment yet; choose another `tokenizer`")
    return tokens


class Tokenizing:
    """A tokenizer on its device, the pictures it reads, and how many at a time."""

    def __init__(
        self, model: ImageTokenizer, device: torch.device, precision: Literal["fp32", "bf16"], batch_size: int, workers: int
    ) -> None:
        """
        Args:
            model: in eval mode.
            device: where it computes.
            precision: of encoder layers; look-ups are in fp32 always.
            batch_size: views encoded at a time.
            workers: processes that read pictures.
        """
        self.model = model.to(device)
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.workers = workers

    def write(self, path: Path, source: ImageSource, training: Views, about: Mapping[str, Any]) -> None:
        """Tokenize both splits into one file.

        Args:
            path: of the file.
            source: the pictures.
            training: views of the training pictures; evaluation pictures have one each.
            about: of the header, but for `splits`.

        Raises:
            ValueError: the disk has too little room, or no picture of a split could be read.
        """
        tokens = spec_of(about["tokens"])
        splits = {"train": training, "val": EvaluationViews(source.val)}
        rows: dict[str, tuple[str, tuple[int, ...]]] = {}
        for split, views in splits.items():
            rows[f"{split}/indices"] = (dtype_for(tokens.codebook_size), (views.views, tokens.num_tokens, tokens.groups))
            rows[f"{split}/labels"] = ("I32", ())
        path.parent.mkdir(parents=True, exist_ok=True)
        self._check_room(path, splits, tokens)
        with CacheWriter(path, rows) as writer:
            written = {split: self._write_split(writer, split, views, source, tokens) for split, views in splits.items()}
            writer.finish({**about, "splits": written})

    def _check_room(self, path: Path, splits: dict[str, Views], tokens: TokenSpec) -> None:
        """Twice the largest array, as joining them needs."""
        width = np.dtype(DTYPES[dtype_for(tokens.codebook_size)]).itemsize
        sizes = [len(views) * views.views * tokens.num_tokens * tokens.groups * width for views in splits.values()]
        needed, free = sum(sizes) + max(sizes), shutil.disk_usage(path.parent).free
        if needed > free:
            raise ValueError(f"output={path}: writing it needs {needed / 1e9:.1f} GB, there are {free / 1e9:.1f} GB; change `output`")

    @torch.inference_mode()
    def _write_split(self, writer: CacheWriter, split: str, views: Views, source: ImageSource, tokens: TokenSpec) -> dict[str, Any]:
        """Tokenize one split; gives what the header says of it."""
        keys, left_out = hashlib.sha256(), list[str]()
        counts = CodebookCounts(tokens.groups, tokens.codebook_size) if tokens.codebook_size <= MAX_COUNTED_CODES else None
        loader = DataLoader(
            views,
            batch_size=max(1, self.batch_size // views.views),
            num_workers=self.workers,
            worker_init_fn=leave_signals_to_training,
            collate_fn=source.collate,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # the global one stays untouched
        )
        with progress(len(views), f"{split} pictures") as advance:
            for batch in loader:
                left_out += batch.left_out
                advance(len(batch.keys) + len(batch.left_out))
                if not batch.keys:
                    continue
                keys.update("".join(f"{key}\n" for key in batch.keys).encode(errors="surrogateescape"))
                indices = self._encode(batch)
                if counts is not None:
                    counts.count(torch.from_numpy(indices).flatten(0, 1))
                writer.append(f"{split}/indices", indices)
                writer.append(f"{split}/labels", batch.labels.numpy())
        if len(left_out) == len(views):
            raise ValueError(f"no {split} picture of this data could be read; left out: {', '.join(left_out[:10])}; change `data`")
        used = None if counts is None else float(usage(counts.counts.sum(0)))
        return {"keys": keys.hexdigest()[:12], "left_out": left_out, "codebook_usage": used}

    def _encode(self, batch: ImageBatch) -> NDArray[np.int64]:
        """(B, views, N, G) of images (B, views, 3, H, W)."""
        pictures, views = batch.images.shape[:2]
        half = torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        with half:
            parts = [self._indices(part) for part in torch.split(batch.images.flatten(0, 1), self.batch_size)]
        joined: NDArray[np.int64] = torch.cat(parts).reshape(pictures, views, *parts[0].shape[1:]).cpu().numpy()
        return joined

    def _indices(self, images: Tensor) -> Tensor:
        return self.model.encode(normalize(images.to(self.device, non_blocking=True)))[0].indices


def describe_tokens(tokens: TokenSpec) -> dict[str, Any]:
    """The fields, as JSON keeps them."""
    return {**asdict(tokens), "grid": list(tokens.grid)}


def describe_cache(
    source: ImageSource,
    tokens: TokenSpec,
    views: Mapping[str, Any],
    data: Mapping[str, Any],
    tokenizer: Mapping[str, str],
    seed: int,
    precision: str,
) -> dict[str, Any]:
    """What a header says, but for `splits`.

    Args:
        source: the pictures.
        tokens: that the tokenizer makes of them.
        views: see `training_views`.
        data: `name` and `config` of the pictures; places are left out.
        tokenizer: its `folder`, `digest` and `weights`.
        seed: of the data.
        precision: of the encoder.
    """
    return {
        "tokens": describe_tokens(tokens),
        "classes": source.classes,
        "image_size": source.image_size,
        "transform": source.transform,
        "reference": source.reference,
        "views": dict(views),
        "seed": seed,
        "data": {
            "name": data["name"],
            "config": {key: value for key, value in data["config"].items() if key != "root"},
            "fingerprint": source.fingerprint(),
        },
        "tokenizer": dict(tokenizer),
        "precision": precision,
        "code_version": code_version(),
    }


@torch.inference_mode()
def decode_row(model: ImageTokenizer, cache: TokenCache, split: str, row: int) -> Image.Image:
    """All views of one row of a cache side by side.

    Args:
        model: that wrote the cache, in eval mode.
        cache: the file.
        split: train or val.
        row: its number.
    """
    indices = torch.from_numpy(cache.array(f"{split}/indices")[row].astype(np.int64))
    layout = spec_of(cache.header.tokens).layout
    label, classes = int(cache.array(f"{split}/labels")[row]), cache.header.about["classes"]
    caption = f"{split} {row}" + (f": {classes[label]}" if classes and label >= 0 else "")
    images = model.decode_indices(indices, layout).float().clamp(-1, 1)
    return captioned_rows({caption: images})
