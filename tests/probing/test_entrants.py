"""What is said of a tokenizer that cannot be probed, before torch is there."""

from pathlib import Path

import pytest
import yaml

from experiments.compose import CONF, compose
from experiments.probing.entrants import Entrant, find_places, training_words
from experiments.signatures import ConfigError
from tests.data.made_caches import write_cache

DATA = {"_target_": "experiments.data.digits.Digits", "image_size": 16}


def run_of(folder: Path, part: str = "tokenizer", image_size: int = 16, checkpoint: bool = True) -> str:
    """A run folder as far as it is looked at."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"task": {part: {}}, "data": {**DATA, "image_size": image_size}}))
    if checkpoint:
        (folder / "checkpoints" / "updates_00000001.ckpt").touch()
    return str(folder)


def test_places_have_the_shortest_names_that_tell_them_apart_and_the_data_of_their_runs(tmp_path):
    places = find_places([run_of(tmp_path / "x" / "gsq" / "1"), run_of(tmp_path / "y" / "gsq" / "1")], None)
    assert [place.name for place in places] == ["x/gsq/1", "y/gsq/1"]
    assert places[0].data == DATA
    assert find_places(run_of(tmp_path / "gsq" / "2"), None)[0].name == "gsq/2"


def test_named_data_serves_all(tmp_path):
    folders = [run_of(tmp_path / "a"), run_of(tmp_path / "b", image_size=32)]
    assert [place.data["image_size"] for place in find_places(folders, {**DATA, "image_size": 24})] == [24, 24]
    with pytest.raises(ConfigError, match=r"different sizes: .*a 16, .*b 32"):
        find_places(folders, None)


def test_every_folder_that_cannot_be_probed_is_named_with_its_reason(tmp_path):
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "config.json").write_text("{}")
    wrong = {
        tmp_path / "nothing": "expected a run folder or an exported tokenizer",
        Path(run_of(tmp_path / "ar", part="generator")): "is the run of a generator",
        Path(run_of(tmp_path / "young", checkpoint=False)): "has no checkpoint",
        tmp_path / "export": "does not say what it was trained on; add data=",
    }
    good = run_of(tmp_path / "good")
    for folder, reason in wrong.items():
        with pytest.raises(ConfigError, match=f"tokenizer={folder}.*{reason}"):
            find_places([good, str(folder)], None)
    with pytest.raises(ConfigError, match="named twice"):
        find_places([good, f"{good}/"], None)
    with pytest.raises(ConfigError, match="expected a run or exported folder"):
        find_places([], None)


@pytest.mark.parametrize("protocol", sorted(path.stem for path in (CONF / "protocol").glob("*.yaml")))
def test_the_training_of_a_protocol_is_one_that_experiments_train_accepts(protocol, tmp_path):
    """The folder's name has signs that mean something to Hydra."""
    folder = tmp_path / "it's (a) run,=1"
    run_of(folder)
    write_cache(folder / "tokens")
    (place,) = find_places(str(folder), DATA)
    settings = compose("probe", ["tokenizer=nothing", "image_size=16", f"protocol={protocol}", "seed=5"]).config
    entrant = Entrant(place, None, "", None, None)
    composition = compose("train", training_words(entrant, folder / "tokens", settings, "auto"))
    config, wanted = composition.config, settings["training"]
    assert {group: composition.choices[group] for group in wanted["groups"]} == wanted["groups"]
    assert all(config[key] == value for key, value in wanted["settings"].items() if not isinstance(value, dict))
    assert all(config["generator"][key] == value for key, value in wanted["settings"].get("generator", {}).items())
    assert (config["seed"], config["tokenizer"], config["data"]["file"]) == (5, str(folder), str(folder / "tokens"))
