"""Whole short runs through the command's own path, and comparisons of what they leave."""

import csv
from pathlib import Path

import torch

from experiments.config.compose import compose
from experiments.runs.checkpoints import STATE, load_checkpoint
from experiments.runs.folder import RunFolder
from experiments.training.loop import train

# Nine images per epoch and four per batch: the first epoch ends inside the third batch.
WORDS = [
    "scale=smoke", "updates=6", "codebook_size=64", "groups=8", "data.cuts_per_picture=1", "validate_every=3", "checkpoint_every=1",
    "loss.weights.lecam=0.1", "loss.weights.gradient_penalty=0.1", "loss.adversarial.gradient_penalty.every=2", "loss.adaptive_limit=1e4",
]  # fmt: skip


class Killed(BaseException):
    """Stands for a process that is killed."""


def run(folder: Path, *words: str) -> int:
    overrides = [*WORDS, f"runs_folder={folder}", *words]
    return train(compose("train", overrides).config, overrides, "test")


def the_folder(folder: Path) -> RunFolder:
    (path,) = (folder / "test").iterdir()
    return RunFolder(path)


def rows(folder: RunFolder) -> list[dict[str, str]]:
    with open(folder.path / "metrics.csv", newline="") as file:
        return [{key: value for key, value in row.items() if not key.startswith("perf/")} for row in csv.DictReader(file)]


def final_state(folder: RunFolder) -> dict:
    checkpoint = load_checkpoint(folder.checkpoints / "updates_00000006.ckpt")
    checkpoint[STATE].pop("seconds")
    return {key: checkpoint[key] for key in ("state_dict", "optimizer_states", STATE)}


def assert_same(a, b, path=""):
    assert type(a) is type(b), path
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            assert_same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list | tuple):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}/{i}")
    else:
        assert a == b, path
