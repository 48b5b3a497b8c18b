"""Flipped bits and truncation of every kind of file that is read back: refused in one line, or without effect on what is loaded."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.config.parsing import read_mapping, write_mapping
from experiments.runs.checkpoints import STATE, check_parts, load_checkpoint, save_checkpoint
from experiments.runs.model_folder import ModelFolder
from experiments.tokens.cache import TokenCache
from tests.test_pretrained import by_hand
from tests.tokens.made_caches import write_merged_cache
from tokenizer import pretrained
from tokenizer.fitting import digest_of_tensors

TRIALS = 100  # of each of six kinds
LONGEST = 1000  # characters of a message
CONFIG = {"seed": 1, "learning_rate": 0.00025, "task": {"tokenizer": {"layers": [1, 2], "name": "a: b", "frozen": False, "init": None}}}


def plain(content: Any) -> Any:
    """Nested containers with the digest of a tensor in its place, which compare with ==."""
    if isinstance(content, torch.Tensor):
        return digest_of_tensors({"": content})
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    return [plain(value) for value in content] if isinstance(content, list | tuple) else content


def export(folder: Path) -> None:
    by_hand().save_pretrained(folder, trained_with={"image_size": 16, "weights": "ema"})


def load_export(folder: Path) -> Any:
    model, config = pretrained.load(folder)
    return digest_of_tensors(model.state_dict()), config, ModelFolder(folder).trained_with


def checkpoint(folder: Path) -> None:
    weights = dict(by_hand().state_dict())
    optimizer = {"state": {0: {"exp_avg": torch.randn(3), "step": torch.tensor(2.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    own = {"updates": 2, "batches": 4, "seconds": 0.5, "average": weights}
    content = {"state_dict": weights, "optimizer_states": [optimizer], "lr_schedulers": [], "loops": {"fit_loop": {"count": 2}}, STATE: own}
    save_checkpoint(content, folder / "updates_00000002.ckpt")


def read_checkpoint(folder: Path) -> Any:
    path = folder / "updates_00000002.ckpt"
    content = load_checkpoint(path)
    check_parts(content, path)
    return plain(content)


def cache(folder: Path) -> None:
    write_merged_cache(folder / "cache.safetensors")


def read_cache(folder: Path) -> Any:
    stored = TokenCache(folder / "cache.safetensors")
    return stored.header.about, {name: stored.array(name).tolist() for name in stored.header.arrays}


def configurations(folder: Path) -> None:
    write_mapping(folder / "config.yaml", CONFIG)
    write_mapping(folder / "environment.json", CONFIG)


def read_configurations(folder: Path) -> Any:
    return read_mapping(folder / "config.yaml"), read_mapping(folder / "environment.json")


KINDS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any], str]] = {
    "checkpoint": (checkpoint, read_checkpoint, "updates_00000002.ckpt"),
    "weights of an export": (export, load_export, "model.safetensors"),
    "configuration of an export": (export, load_export, "config.json"),
    "token cache": (cache, read_cache, "cache.safetensors"),
    "configuration of a run": (configurations, read_configurations, "config.yaml"),
    "record of a run": (configurations, read_configurations, "environment.json"),
}


def damaged(content: bytes, choices: random.Random) -> bytes:
    """Four of five times one flipped bit, half of them in the first or last 2048 bytes, where headers are; otherwise truncated."""
    if choices.random() < 0.2:
        return content[: choices.randrange(len(content))]
    place = choices.randrange(len(content))
    if choices.random() < 0.5:
        place = choices.choice([*range(min(2048, len(content))), *range(max(0, len(content) - 2048), len(content))])
    changed = bytearray(content)
    changed[place] ^= 1 << choices.randrange(8)
    return bytes(changed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_damage_is_accepted_in_silence_and_none_is_a_traceback(kind, tmp_path):
    make, read, name = KINDS[kind]
    (tmp_path / "whole").mkdir()
    make(tmp_path / "whole")
    expected, choices = read(tmp_path / "whole"), random.Random(kind)
    original, messages = (tmp_path / "whole" / name).read_bytes(), list[str]()
    for trial in range(TRIALS):
        folder = tmp_path / f"{trial}"
        folder.mkdir()
        for file in (tmp_path / "whole").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / name).write_bytes(damaged(original, choices))
        try:
            content = read(folder)
        except ValueError as error:  # every TesseraError about a file is one too
            messages.append(str(error))
        else:
            assert content == expected, trial
    assert len(messages) > TRIALS / 2
    assert [message for message in messages if len(message.splitlines()) != 1 or len(message) > LONGEST] == []
