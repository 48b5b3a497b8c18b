"""Training of a tokenizer that merges tokens, with a chosen number of them."""

import json
from pathlib import Path

import pytest

from experiments.config import packages
from experiments.config.compose import compose
from experiments.config.errors import ConfigError
from experiments.runs.folder import RunFolder
from experiments.training.loop import train

WORDS = [
    "scale=smoke", "data=photos", "data.cuts_per_picture=1", "trainer=cpu", "updates=2", "groups=2",
    "codebook_size=16", "latent_dim=4",
]  # fmt: skip
ENCODER = {"_target_": "tests.merging_tokenizer.MergingEncoder", "latent_dim": 4, "width": 8}
DECODER = {"_target_": "tests.merging_tokenizer.UnmergingDecoder", "latent_dim": 4}


@pytest.fixture(autouse=True)
def tests_are_a_plugin(monkeypatch):
    monkeypatch.setattr(packages, "_plugins", {"tests": None})


def run(folder: Path, *words: str) -> None:
    overrides = [*WORDS, f"runs_folder={folder}", *words]
    config = compose("train", overrides).config
    config["task"]["tokenizer"] |= {"encoder": ENCODER, "decoder": DECODER}
    assert train(config, overrides, "merged") == 0


@pytest.mark.parametrize(("words", "count"), [([], 8), (["num_tokens=5"], 5)])
def test_training_and_validation_have_the_number_of_tokens(words, count, tmp_path):
    run(tmp_path, *words)
    (path,) = (tmp_path / "merged").iterdir()
    result = RunFolder(path).result
    assert result["cards"]["val/psnr"].get("num_tokens") == (count if words else None)
    bits = count * 2 * 4 + 16 * {8: 3, 5: 2.321928}[count]  # of the codes and of the assignment
    assert result["metrics"]["val/bits_per_pixel"] == pytest.approx(bits / 32**2, rel=1e-6)
    assert result["metrics"]["val/codebook_usage"] > 0
    tokens = json.loads((path / "environment.json").read_text())["tokens"]
    assert (tokens["num_tokens"], tokens["kind"], tokens["kept"]) == (count, "merged", [count])


def test_a_number_that_the_encoder_refuses_is_an_error_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError) as caught:
        run(tmp_path / "runs", "num_tokens=17")
    assert (caught.value.key, caught.value.value) == ("num_tokens", 17)
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_does_not_merge_refuses_other_numbers(tmp_path):
    overrides = [*WORDS, f"runs_folder={tmp_path}", "num_tokens=5"]
    with pytest.raises(ConfigError) as caught:
        train(compose("train", overrides).config, overrides, "conv")
    assert (caught.value.key, caught.value.value) == ("num_tokens", 5)
