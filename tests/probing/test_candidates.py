"""Tokenizers that can be probed, and the errors for others, without torch."""

from pathlib import Path

import pytest
import yaml

from experiments.config.errors import ConfigError
from experiments.probing.candidates import find_locations

DATA = {"_target_": "experiments.data.digits.Digits", "image_size": 16}


def run_of(folder: Path, part: str = "tokenizer", image_size: int = 16, checkpoint: bool = True, **data: object) -> str:
    """A run folder as far as it is looked at."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"task": {part: {}}, "data": {**DATA, "image_size": image_size, **data}}))
    if checkpoint:
        (folder / "checkpoints" / "updates_00000001.ckpt").touch()
    return str(folder)


def test_locations_have_the_shortest_different_names_and_the_data_of_their_runs(tmp_path):
    locations = find_locations([run_of(tmp_path / "x" / "gsq" / "1"), run_of(tmp_path / "y" / "gsq" / "1")], None, 16, 0)
    assert [location.name for location in locations] == ["x/gsq/1", "y/gsq/1"]
    assert locations[0].data == DATA
    assert find_locations(run_of(tmp_path / "gsq" / "2"), None, 16, 0)[0].name == "gsq/2"


def test_named_data_serves_all(tmp_path):
    folders = [run_of(tmp_path / "a"), run_of(tmp_path / "b", image_size=32)]
    assert [location.data["image_size"] for location in find_locations(folders, {**DATA, "image_size": 24}, 24, 0)] == [24, 24]
    with pytest.raises(ConfigError, match=r"a and .*b were trained on different images \(image_size: 16 -> 32\).*choose data="):
        find_locations(folders, None, 16, 0)


def test_images_of_two_runs_are_cut_alike_wherever_they_are(tmp_path):
    """The runs had seeds of their own, the crops of a probe have the probe's; other crops are other images."""
    folders = [run_of(tmp_path / name, seed=seed, flip=False) for name, seed in (("a", 3), ("b", 4))]
    assert [location.data["seed"] for location in find_locations(folders, None, 16, 7)] == [7, 7]
    with pytest.raises(ConfigError, match="flip: False -> True"):
        find_locations([folders[0], run_of(tmp_path / "c", seed=3, flip=True)], None, 16, 7)


def test_a_setting_that_would_change_nothing_and_data_without_images_are_refused(tmp_path):
    folder = run_of(tmp_path / "a")
    with pytest.raises(ConfigError, match="trained on 16 pixels; add data=") as caught:
        find_locations(folder, None, 24, 0)
    assert (caught.value.key, caught.value.value) == ("image_size", 24)
    with pytest.raises(ValueError, match="data=indices: expected images"):
        find_locations(folder, {"_target_": "experiments.tokens.cached.CachedTokens", "file": "c", "seed": 0}, 16, 0)


def test_every_folder_that_cannot_be_probed_is_named_with_its_reason(tmp_path):
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "config.json").write_text("{}")
    (tmp_path / "export" / "model.safetensors").touch()
    wrong = {
        tmp_path / "nothing": "expected a file or folder that exists",
        tmp_path: "expected a run folder or an exported tokenizer",
        Path(run_of(tmp_path / "ar", part="generator")): "it holds a generator; expected a tokenizer",
        Path(run_of(tmp_path / "young", checkpoint=False)): "has no checkpoint",
        tmp_path / "export": "does not record its training data; add data=",
    }
    good = run_of(tmp_path / "good")
    for folder, reason in wrong.items():
        with pytest.raises(ConfigError, match=f"tokenizer={folder}.*{reason}"):
            find_locations([good, str(folder)], None, 16, 0)
    with pytest.raises(ConfigError, match="named twice"):
        find_locations([good, f"{good}/"], None, 16, 0)
    with pytest.raises(ConfigError, match="expected a run or exported folder"):
        find_locations([], None, 16, 0)
