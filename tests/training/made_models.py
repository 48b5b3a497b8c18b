"""A tiny tokenizer as an export, a cache of the digits by it, and the words of a generator that learns from such a cache."""

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
    "task=generator", "generator.width=32", "generator.depth=2", "generator.attention_heads=2", "updates=4", "batch_size=8", "workers=0",
    "trainer=cpu", "log_every=1", "validate_every=4", "checkpoint_every=1", "samples_shown=0",
]  # fmt: skip


def write_tokenizer(folder: Path, seed: int = 0, classes: int = 10) -> dict[str, str]:
    """An export of random weights; gives what a cache records of it."""
    config = compose("train", TOKENIZER).config["task"]["tokenizer"]
    torch.manual_seed(seed)
    model = build(config)
    about = {"image_size": 16, "tokens": vars(model.tokens(16, classes)), "classes": None}
    model.save_pretrained(folder, about)
    return {"folder": str(folder), "digest": digest_of(model), "weights": "ema"}


def write_tokens(path: Path, tokenizer: dict[str, str] | None = None, images: int = 40) -> Path:
    """A cache of random indices, said to be by `tokenizer`; of the one that `made_caches` invents if None."""
    write_cache(path, images=images, about={**ABOUT, "tokenizer": tokenizer} if tokenizer else ABOUT)
    return path


def write_digits(path: Path, tokenizer: Path) -> Path:
    """A cache of the digits."""
    words = [f"tokenizer={tokenizer}", "data=digits", f"output={path}", "batch_size=300", "workers=0", "device=cpu"]
    assert tokenize.run(compose("tokenize", words)) == 0
    return path


def run(folder: Path, file: Path, *words: str) -> RunFolder:
    """Train on a cache, and give the run's folder."""
    overrides = [*GENERATOR, f"data.file={file}", f"runs_folder={folder}", *words]
    assert train(compose("train", overrides).config, overrides, "test") == 0
    newest = max((folder / "test").iterdir(), key=lambda path: (path / "result.json").stat().st_mtime)
    return RunFolder(newest)


def recorded(folder: RunFolder) -> dict:
    """What a run's folder says of its model."""
    return dict(json.loads((folder.path / "environment.json").read_text()))
