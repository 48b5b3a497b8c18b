"""A tiny exported tokenizer, a token cache of the digits, and the overrides of a generator that trains on such a cache."""

import json
from pathlib import Path

import torch

from experiments import tokenize
from experiments.config.compose import compose
from experiments.runs.build import build
from experiments.runs.folder import RunFolder
from experiments.runs.models import digest_of
from experiments.training.loop import train
from tests.tokens.made_caches import ABOUT, write_cache

TOKENIZER = [
    "quantizer=gsq", "latent_dim=4", "groups=2", "codebook_size=16", "image_size=16", "width=8", "depth=1", "patch_size=8",
    "backbone.encoder.norm_groups=4",
]  # fmt: skip
"""2 x 2 tokens of 16 x 16 pixels, as in `made_caches`."""
GENERATOR = [
    "task=generator", "generator_size.width=32", "generator_size.depth=2", "generator_size.attention_heads=2", "updates=4", "batch_size=8",
    "workers=0", "trainer=cpu", "log_every=1", "validate_every=4", "checkpoint_every=1", "samples_shown=0",
]  # fmt: skip


def write_tokenizer(folder: Path, seed: int = 0, classes: int = 10) -> dict[str, str]:
    """Export a tokenizer with random weights; return the description that a cache stores."""
    config = compose("train", TOKENIZER).config["task"]["tokenizer"]
    torch.manual_seed(seed)
    model = build(config)
    about = {"image_size": 16, "tokens": vars(model.tokens(16, classes)), "classes": None}
    model.save_pretrained(folder, about)
    return {"folder": str(folder), "digest": digest_of(model), "weights": "ema"}


def write_tokens(path: Path, tokenizer: dict[str, str] | None = None, images: int = 40) -> Path:
    """Write a cache of random indices that names `tokenizer` as its tokenizer, or the placeholder of `made_caches` if None."""
    write_cache(path, images=images, about={**ABOUT, "tokenizer": tokenizer} if tokenizer else ABOUT)
    return path


def write_digits(path: Path, tokenizer: Path) -> Path:
    """Write a token cache of the digits."""
    words = [f"tokenizer={tokenizer}", "data=digits", f"output={path}", "batch_size=300", "workers=0", "device=cpu"]
    assert tokenize.run(compose("tokenize", words)) == 0
    return path


def run(folder: Path, file: Path, *words: str) -> RunFolder:
    """Train on a cache and return the run folder."""
    overrides = [*GENERATOR, f"data.file={file}", f"runs_folder={folder}", *words]
    assert train(compose("train", overrides).config, overrides, "test") == 0
    newest = max((folder / "test").iterdir(), key=lambda path: (path / "result.json").stat().st_mtime)
    return RunFolder(newest)


def recorded(folder: RunFolder) -> dict:
    """Model description in a run folder."""
    return dict(json.loads((folder.path / "environment.json").read_text()))
