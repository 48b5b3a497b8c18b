"""The kind of what a path holds, and which settings take it."""

import pytest
from PIL import Image

from experiments.config.errors import ConfigError, DataError
from experiments.data.files import check_file, check_root
from experiments.runs.kinds import kind_of_path
from experiments.runs.model_folder import ModelFolder
from tests.tokens.made_caches import write_merged_cache


@pytest.fixture
def paths(tmp_path):
    for name in ("run/config.yaml", "run/environment.json", "export/config.json", "export/model.safetensors", "a.npz", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    for name in ("run/checkpoints", "images/cats"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "run/checkpoints/updates_00000001.ckpt").write_text("")
    Image.new("RGB", (4, 4)).save(tmp_path / "images/cats/a.png")
    write_merged_cache(tmp_path / "tokens.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind", "key"),
    [
        ("run", "a run folder", "`resume`"),
        ("run/checkpoints", "the checkpoints of the run folder", "`model`"),
        ("run/checkpoints/updates_00000001.ckpt", "a checkpoint of the run folder", "`model`"),
        ("run/config.yaml", "a file of", "`model`"),
        ("export", "an exported model", "`tokenizer`"),
        ("export/model.safetensors", "a file of", "`init_from`"),
        ("images", "a folder of images", "`data.root`"),
        ("images/cats/a.png", "an image", "`data.root`"),
        ("tokens.safetensors", "a token cache", "`data.file`"),
        ("a.npz", "an npz file", "`reference`"),
    ],
)
def test_a_path_is_described_with_a_setting_that_takes_it(name, kind, key, paths):
    described = kind_of_path(paths / name)
    assert described.startswith(kind)
    assert key in described


@pytest.mark.parametrize("name", ["notes.txt", "absent", "."])
def test_what_is_not_known_is_not_described(name, tmp_path):
    (tmp_path / "notes.txt").write_text("")
    assert kind_of_path(tmp_path / name) == ""


@pytest.mark.parametrize("name", ["run", "export", "tokens.safetensors", "run/checkpoints"])
def test_data_that_is_something_else_is_named(name, paths):
    (paths / "run/images").mkdir()
    Image.new("RGB", (4, 4)).save(paths / "run/images/updates_00000001.png")
    with pytest.raises(DataError) as caught:
        check_root(paths / name)
    assert kind_of_path(paths / name) in caught.value.reason
    assert caught.value.key == "data.root"


@pytest.mark.parametrize("name", ["images", "tokens.safetensors", "a.npz", "run/checkpoints"])
def test_a_model_that_is_something_else_is_named(name, paths):
    with pytest.raises(ConfigError) as caught:
        ModelFolder(paths / name, "tokenizer").require("tokenizer")
    assert kind_of_path(paths / name) in caught.value.reason
    assert caught.value.key == "tokenizer"


def test_a_folder_in_place_of_a_file_is_named(paths):
    with pytest.raises(DataError) as caught:
        check_file(paths / "run", "data.file", "a token cache")
    assert kind_of_path(paths / "run") in caught.value.reason
