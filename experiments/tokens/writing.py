"""From images to a token cache, and from a row of a cache back to an image."""

import hashlib
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from experiments.config.errors import ConfigError, DataError, DiskFull, config_errors
from experiments.data.loading import evaluation_batches, make_loader
from experiments.data.source import ImageSource
from experiments.data.transforms import normalize
from experiments.evaluation.cards import code_version
from experiments.evaluation.figures import captioned_rows
from experiments.evaluation.metrics.codebook import MAX_COUNTED_CODES, CodebookCounts, usage
from experiments.evaluation.subjects import require_num_tokens
from experiments.runs.model_folder import ModelFolder
from experiments.runs.terminal import progress
from experiments.tokens.cache import (
    CacheWriter,
    TokenCache,
    dtype_for,
    identity_of,
    looks_like_cache,
    read_header,
    token_counts,
)
from experiments.tokens.cached import spec_of, stored_layout
from experiments.tokens.crops import EvaluationViews, Views, training_views
from experiments.tokens.header import StoredArray
from tokenizer.files import DIGITS, short_hash
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import ImageBatch, TokenSpec
from tokenizer.layers.precision import full_precision

log = logging.getLogger(__name__)


def tokens_of(model: ImageTokenizer, source: ImageSource, num_tokens: Sequence[int] = ()) -> TokenSpec:
    """Sizes of the tokens of one image.

    Args:
        num_tokens: number of tokens of each view; empty for the encoder's own number.

    Raises:
        ConfigError: the image size does not fit, the encoder cannot keep a number of tokens, or numbers differ without merging.
    """
    with config_errors("tokenizer"):
        tokens = model.tokens(source.image_size, len(source.classes or []), num_tokens)
    require_num_tokens(model, source.image_size, sorted(set(num_tokens)), "num_tokens")
    if len(set(num_tokens)) > 1 and tokens.kind != "merged":
        raise ConfigError("num_tokens", list(num_tokens), reason="this tokenizer does not merge tokens", expected="one for all views")
    return tokens


class Tokenizing:
    """A tokenizer on its device, with the settings of encoding."""

    def __init__(
        self, model: ImageTokenizer, device: torch.device, precision: Literal["fp32", "bf16"], batch_size: int, workers: int
    ) -> None:
        """
        Args:
            model: in eval mode.
            device: device of the tokenizer.
            precision: precision of encoder layers; look-ups are always in fp32.
            batch_size: views encoded at a time.
            workers: number of reading processes.
        """
        self.model = model.to(device)
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.workers = workers

    def write(self, path: Path, source: ImageSource, training: Views, about: Mapping[str, Any]) -> None:
        """Tokenize both splits into one file.

        Args:
            path: the file.
            source: the images.
            training: views of the training images; evaluation images have one each.
            about: `about` of the header, except `splits`.

        Raises:
            DiskFull: the disk has too little space.
            DataError: no image of a split can be read.
        """
        tokens = spec_of(about["tokens"])
        splits = {"train": training, "val": EvaluationViews(source.val)}
        rows: dict[str, tuple[str, tuple[int, ...]]] = {}
        for split, views in splits.items():
            rows[f"{split}/indices"] = (dtype_for(tokens.codebook_size), (views.views, tokens.num_tokens, tokens.groups))
            if tokens.kind == "merged":
                rows[f"{split}/assignment"] = (dtype_for(tokens.num_tokens), (views.views, math.prod(tokens.grid)))
            rows[f"{split}/labels"] = ("I32", ())
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_space(path, [StoredArray(dtype, (len(splits[name.partition("/")[0]]), *row), 0) for name, (dtype, row) in rows.items()])
        with CacheWriter(path, rows) as writer:
            written = {split: self._write_split(writer, split, views, source, about) for split, views in splits.items()}
            writer.finish({**about, "splits": written})

    @torch.inference_mode()
    def _write_split(self, writer: CacheWriter, split: str, views: Views, source: ImageSource, about: Mapping[str, Any]) -> dict[str, Any]:
        """Tokenize one split; returns its entry of the header."""
        tokens, kept = spec_of(about["tokens"]), token_counts(about, views.views)
        is_token = torch.arange(tokens.num_tokens) < torch.tensor(kept)[:, None]  # (views, N), false for padding
        keys, left_out = hashlib.sha256(), list[str]()
        counts = CodebookCounts(tokens.groups, tokens.codebook_size) if tokens.codebook_size <= MAX_COUNTED_CODES else None
        batches = evaluation_batches(len(views), max(1, self.batch_size // views.views), rank=0, world=1)
        with progress(len(views), f"{split} images") as advance:
            for batch in make_loader(views, source.collate, batches, self.workers):
                left_out += batch.left_out
                advance(len(batch.keys) + len(batch.left_out))
                if not batch.keys:
                    continue
                keys.update("".join(f"{key}\n" for key in batch.keys).encode(errors="surrogateescape"))
                arrays = self._encode(batch, kept, tokens)
                if counts is not None:
                    counts.count(arrays["indices"][:, is_token])
                for name, array in (arrays | {"labels": batch.labels}).items():
                    writer.append(f"{split}/{name}", array.numpy())
        if len(left_out) == len(views):
            raise DataError(None, f"no {split} image can be read; left out: {', '.join(left_out[:10])}", "data")
        share = None if counts is None else float(usage(counts.counts.sum(0)))
        return {"keys": keys.hexdigest()[:DIGITS], "left_out": left_out, "codebook_usage": share}

    def _encode(self, batch: ImageBatch, kept: list[int], tokens: TokenSpec) -> dict[str, Tensor]:
        """Of images (B, views, 3, H, W), indices (B, views, N, G), padded by 0, and of merged tokens also the assignment (B, views, L).

        Views with equally many tokens are encoded together.
        """
        shape = batch.images.shape[:2]
        arrays = {"indices": torch.zeros(*shape, tokens.num_tokens, tokens.groups, dtype=torch.int64)}
        if tokens.kind == "merged":
            arrays["assignment"] = torch.zeros(*shape, math.prod(tokens.grid), dtype=torch.int64)
        for count in dict.fromkeys(kept):
            views = [view for view, each in enumerate(kept) if each == count]
            parts = [self._tokens(part, count) for part in torch.split(batch.images[:, views].flatten(0, 1), self.batch_size)]
            joined = [torch.cat(column).cpu() for column in zip(*parts, strict=True)]
            arrays["indices"][:, views, :count] = joined[0].view(shape[0], len(views), count, tokens.groups)
            if tokens.kind == "merged":
                arrays["assignment"][:, views] = joined[1].view(shape[0], len(views), -1)
        return arrays

    def _tokens(self, images: Tensor, count: int) -> list[Tensor]:
        """Indices, and of merged tokens the assignment."""
        is_low = self.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if is_low else full_precision(self.device):
            output, layout = self.model.encode(normalize(images.to(self.device, non_blocking=True)), count)
        return [output.indices] if layout.assignment is None else [output.indices, layout.assignment]


def _check_space(path: Path, arrays: Sequence[StoredArray]) -> None:
    """Joining the arrays needs the largest one twice."""
    sizes = [array.size for array in arrays]
    needed, free = sum(sizes) + max(sizes), shutil.disk_usage(path.parent).free
    if needed > free:
        raise DiskFull(path, "it does not fit", needed, free)


def describe_tokens(tokens: TokenSpec) -> dict[str, Any]:
    """The fields in JSON's types; without `kept` if tokens are not merged, as in files of earlier versions."""
    fields = {**asdict(tokens), "grid": list(tokens.grid), "kept": list(tokens.kept)}
    return fields if tokens.kept else {name: value for name, value in fields.items() if name != "kept"}


def describe_cache(
    source: ImageSource,
    tokens: TokenSpec,
    views: Mapping[str, Any],
    data: Mapping[str, Any],
    tokenizer: Mapping[str, str],
    seed: int,
    precision: str,
    num_tokens: Sequence[int] = (),
) -> dict[str, Any]:
    """`about` of a header, except `splits`.

    Args:
        source: the images.
        tokens: sizes of their tokens.
        views: see `view_settings`.
        data: `name` and `config` of the images; paths are left out.
        tokenizer: `folder`, `digest` and `weights` of the tokenizer.
        seed: seed of the data.
        precision: precision of the encoder.
        num_tokens: number of tokens of each view; empty for the encoder's own number.
    """
    kept: dict[str, list[int]] = {}
    if tokens.kind == "merged":
        kept["kept"] = list(num_tokens) or [tokens.num_tokens] * training_views(source, views).views
    return {
        "tokens": describe_tokens(tokens),
        "classes": source.classes,
        "image_size": source.image_size,
        "transform": source.transform,
        "reference": source.reference,
        "views": {**views, **kept},
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


def output_file(output: str | None, tokenizer: ModelFolder, about: Mapping[str, Any]) -> Path:
    """The file of a cache: `output`, or by default one for each tokenizer, data and crops, in the run folder if there is one."""
    if output:
        return Path(output)
    folder = tokenizer.path / "tokens" if tokenizer.is_run else Path("runs", "tokens", *tokenizer.path.resolve().parts[-2:])
    return folder / f"{short_hash(identity_of(about))}.safetensors"


def is_written(path: Path, about: Mapping[str, Any], rerun: bool) -> bool:
    """Whether a cache exists and is not to be written again.

    Raises:
        ConfigError: the file is another cache; with `rerun` only if it has never been a cache, not even a damaged one.
        DataError: without `rerun`, the file is no cache.
    """
    if not path.exists():
        return False
    if rerun:
        if not looks_like_cache(path):
            raise ConfigError("output", str(path), reason="this file is not a token cache")
        return False
    header = read_header(path, "output")
    old, new = identity_of(header.about), identity_of(about)
    if old == new:
        header.verify("output")
        return True
    differing = ", ".join(name for name in new if old[name] != new[name])
    raise ConfigError("output", str(path), reason=f"it is a cache of another {differing}", advice="change `output`, or set rerun=true")


@torch.inference_mode()
def decode_row(model: ImageTokenizer, cache: TokenCache, split: str, row: int) -> Image.Image:
    """All views of one row of a cache side by side.

    Args:
        model: tokenizer that wrote the cache, in eval mode.
        cache: the file.
        split: train or val.
        row: number of the row.
    """
    indices, tokens = torch.from_numpy(cache.array(f"{split}/indices")[row].astype(np.int64)), spec_of(cache.header.tokens)
    layout = stored_layout(tokens, cache.array(f"{split}/assignment")[row] if tokens.kind == "merged" else None)
    label, classes = int(cache.array(f"{split}/labels")[row]), cache.header.about["classes"]
    caption = f"{split} {row}" + (f": {classes[label]}" if classes and label >= 0 else "")
    device = next(model.parameters()).device
    images = model.decode_indices(indices.to(device), layout.to(device)).float().clamp(-1, 1)
    return captioned_rows({caption: images})
