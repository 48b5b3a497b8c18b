"""The home folder at the beginning of a path is found for every key, of every verb, in files and on the command line."""

import pytest

from experiments.config import packages
from experiments.config.compose import CONF, compose
from experiments.config.errors import ConfigError
from experiments.config.paths import with_home
from experiments.reports.measured import runs_folder
from tests.config.conf_files import FILES, write


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_every_text_of_a_tree_that_begins_with_the_home_folder_is_a_path(home):
    tree = {"a": "~/x", "b": ["~", {"c": "~/y z/ä"}], "d": "x/~", "e": "~ about", "f": 3, "g": None}
    expected = {"a": f"{home}/x", "b": [str(home), {"c": f"{home}/y z/ä"}], "d": "x/~", "e": "~ about", "f": 3, "g": None}
    assert with_home(tree) == expected


def test_a_user_that_does_not_exist_is_named_with_the_key():
    with pytest.raises(ConfigError) as caught:
        with_home({"data": {"root": "~nobody.of.this.name/photos"}})
    assert (caught.value.key, caught.value.value) == ("data.root", "~nobody.of.this.name/photos")


def test_paths_of_every_verb_may_begin_with_the_home_folder(home):
    (home / "photos").mkdir(parents=True)
    train = compose("train", ["data=image_folder", "data.root=~/photos", "runs_folder=~/runs", "init_from=~/a", "resume=~/b"]).config
    assert [train["data"]["root"], train["runs_folder"]] == [f"{home}/photos", f"{home}/runs"]
    assert [train["init_from"], train["resume"]] == [f"{home}/a", f"{home}/b"]
    assert compose("tokenize", ["inspect=~/tokens", "tokenizer=~/run", "image_size=32"]).settings.inspect == f"{home}/tokens"
    assert compose("evaluate", ["model=~/run", "image_size=32", "output='~/out'"]).settings.output == f"{home}/out"
    assert compose("generate", ["model=~/run", "image_size=32", "metrics=true", "reference=~/r.npz"]).settings.reference == f"{home}/r.npz"
    assert compose("export", ["run=~/run"]).settings.run == f"{home}/run"
    assert compose("probe", ["tokenizer=['~/a','~/b']", "image_size=32"]).settings.tokenizer == [f"{home}/a", f"{home}/b"]
    assert compose("report", ["gsq/table01_codebook", "output=~/reports"]).settings.output == f"{home}/reports"
    assert runs_folder(["runs_folder=~/runs"], CONF) == home / "runs"


def test_a_setting_of_a_model_in_the_home_folder_is_read(home):
    (home / "run").mkdir(parents=True)
    (home / "run" / "config.yaml").write_text("image_size: 48\n")
    assert compose("evaluate", ["model=~/run"]).settings.image_size == 48


def test_a_file_may_name_the_home_folder_and_one_path_is_one_run(home, tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "ROOT", tmp_path)
    conf = write(tmp_path, FILES | {"conf/experiment/mine.yaml": "# @package _global_\nruns_folder: ~/runs\n"})
    assert compose("train", ["experiment=mine"], conf).config == compose("train", [f"runs_folder={home}/runs"], conf).config


def test_an_added_folder_may_begin_with_the_home_folder(home, tmp_path):
    write(home, {"mine/quantizer/other.yaml": "_target_: tokenizer.quantizers.vq.VectorQuantizer\n"})
    assert compose("train", ["--config-dir=~/mine", "quantizer=gsq"]).draft.folders.added == (home.resolve() / "mine",)
