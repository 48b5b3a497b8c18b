"""`experiments.evaluate num_tokens=...`: one model at several numbers of tokens, and what an encoder refuses."""

import json

import pytest

from experiments import evaluate
from experiments.config import packages
from experiments.config.compose import compose
from experiments.config.errors import ConfigError
from tests.merging_tokenizer import write_merging_tokenizer
from tests.training.made_models import write_tokenizer


@pytest.fixture
def merging(tmp_path, monkeypatch):
    """Folder of an exported tokenizer that merges tokens."""
    monkeypatch.setattr(packages, "_plugins", {"tests": None})
    write_merging_tokenizer(tmp_path / "merging")
    return tmp_path / "merging"


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(model, *words: str) -> dict:
        before = {*tmp_path.rglob("result.json")}
        overrides = [f"model={model}", "data=digits", "image_size=32", "batch_size=100", "workers=0", *words]
        assert evaluate.run(compose("evaluate", overrides)) == 0
        (path,) = {*tmp_path.rglob("result.json")} - before
        return json.loads(path.read_text())

    return run


def test_one_number_is_under_val_and_several_are_under_prefixes_of_their_own(merging, evaluated, capsys):
    own = evaluated(merging)
    one = evaluated(merging, "num_tokens=4")
    several = evaluated(merging, "num_tokens=[4,16]")
    assert {key.partition("/")[0] for key in one["metrics"]} == {"val"}
    assert {key.partition("/")[0] for key in several["metrics"]} == {"val_4", "val_16"}
    assert several["metrics"]["val_4/psnr"] == one["metrics"]["val/psnr"] != own["metrics"]["val/psnr"]
    assert several["cards"]["val_16/psnr"]["num_tokens"] == 16
    assert "num_tokens" not in own["cards"]["val/psnr"]
    assert "EMA, 16 tokens" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "value"),
    [("num_tokens=[4,17]", 17), ("num_tokens=[4,4]", [4, 4]), ("num_tokens=[]", []), ("num_tokens=0", 0), ("num_tokens=half", "half")],
)
def test_numbers_that_cannot_be_kept_are_refused_before_anything_is_written(merging, evaluated, words, value, tmp_path):
    with pytest.raises(ConfigError) as caught:
        evaluated(merging, words)
    assert caught.value.key.startswith("num_tokens")
    assert caught.value.value == value
    assert not list(tmp_path.rglob("result.json"))


def test_an_encoder_of_one_token_a_cell_takes_no_other_number(evaluated, tmp_path):
    write_tokenizer(tmp_path / "raster")
    assert evaluated(tmp_path / "raster", "num_tokens=16")["cards"]["val/psnr"]["num_tokens"] == 16
    with pytest.raises(ConfigError) as caught:
        evaluated(tmp_path / "raster", "num_tokens=9")
    assert (caught.value.key, caught.value.value) == ("num_tokens", 9)
