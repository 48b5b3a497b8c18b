"""A path that leads to a pipe, a socket, a device or another kind of file than its key takes is one error with the key, at once."""

import importlib
import os
import socket

import pytest

from experiments.config.checks import check_output
from experiments.config.compose import compose
from experiments.config.errors import ConfigError, DamagedFile, RunFolderError, TesseraError
from experiments.data.time_limits import time_limit
from experiments.runs.checkpoints import sound_checkpoints
from experiments.runs.folder import RunFolder
from experiments.runs.integrity import verify
from experiments.runs.model_folder import ModelFolder
from tokenizer.files import other_kind, sha256
from tokenizer.pretrained import load
from tokenizer.weights import FILES, MissingWeightsError, find_weights


def pipe(path):
    os.mkfifo(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


def device(path):
    path.symlink_to("/dev/zero")


def folder(path):
    path.mkdir()


def empty_file(path):
    path.touch()


def absent(path):
    pass


SPECIAL = {"a pipe": pipe, "a socket": listening, "a device": device}
COMMANDS = [
    ("train", "init_from", []),
    ("train", "resume", []),
    ("train", "data.root", ["data=image_folder"]),
    ("train", "data.file", ["task=generator"]),
    ("train", "data.tokenizer", ["task=generator", "data=online"]),
    ("evaluate", "model", []),
    ("evaluate", "data.root", ["data=image_folder", "model=MODEL", "image_size=32"]),
    ("export", "run", []),
    ("tokenize", "tokenizer", []),
    ("tokenize", "inspect", []),
    ("generate", "model", []),
    ("probe", "tokenizer", []),
    ("probe", "reference", ["tokenizer=absent", "image_size=32"]),
]


@pytest.fixture(autouse=True)
def limit(tmp_path):
    """What waits for a file fails."""
    with time_limit(tmp_path, 20):
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A folder with an exported model's files, as far as they are read before the images."""
    place = tmp_path_factory.mktemp("model")
    (place / "config.json").write_text('{"_target_": "tokenizer.image_tokenizer.ImageTokenizer"}')
    (place / "model.safetensors").touch()
    return str(place)


def refused(verb, *words):
    with pytest.raises(TesseraError) as caught:
        importlib.import_module(f"experiments.{verb}").run(compose(verb, list(words)))
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("make", [*SPECIAL.values(), folder, empty_file, absent])
@pytest.mark.parametrize(("verb", "key", "words"), COMMANDS, ids=[f"{verb} {key}" for verb, key, _ in COMMANDS])
def test_a_path_of_another_kind_is_one_error_with_its_key(verb, key, words, make, model, tmp_path, monkeypatch):
    make(tmp_path / "x")
    monkeypatch.chdir(tmp_path)
    words = [word.replace("MODEL", model) for word in words]
    assert refused(verb, f"{key}={tmp_path / 'x'}", *words).key == key
    assert [path.name for path in tmp_path.iterdir()] == ["x"] * (make is not absent)


@pytest.mark.parametrize("make", [*SPECIAL.values(), empty_file])
@pytest.mark.parametrize(("verb", "words"), [("train", []), ("probe", ["tokenizer=absent", "image_size=32"])])
def test_a_folder_of_runs_that_is_none_is_refused_before_anything_is_built(verb, words, make, tmp_path):
    make(tmp_path / "x")
    for path in (tmp_path / "x", tmp_path / "x/inner"):
        error = refused(verb, f"runs_folder={path}", *words)
        assert (error.key, error.value, error.expected) == ("runs_folder", str(path), "a folder")


@pytest.mark.parametrize("make", [*SPECIAL.values(), folder])
def test_an_output_file_replaces_nothing_but_a_file(make, tmp_path):
    make(tmp_path / "x")
    with pytest.raises(ConfigError) as caught:
        check_output(tmp_path / "x", is_file=True)
    assert caught.value.key == "output"
    check_output(tmp_path / "new", is_file=True)


@pytest.mark.parametrize(("kind", "make"), SPECIAL.items())
def test_the_kind_of_a_file_is_that_of_what_it_leads_to(kind, make, tmp_path):
    make(tmp_path / "x")
    (tmp_path / "link").symlink_to(tmp_path / "x")
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert other_kind(tmp_path / "link") == kind
    assert [other_kind(tmp_path / name) for name in ("file", "nothing", "loop", "file/inner")] == [""] * 4
    assert other_kind(tmp_path) == "a folder"
    with pytest.raises(ValueError, match=kind):
        sha256(tmp_path / "x")


@pytest.mark.parametrize("make", [*SPECIAL.values(), folder])
@pytest.mark.parametrize("name", ["config.yaml", "config.json", "model.safetensors"])
def test_a_file_of_a_model_that_is_none_is_named(name, make, tmp_path):
    make(tmp_path / name)
    with pytest.raises(ConfigError, match=name) as caught:
        ModelFolder(tmp_path, "tokenizer").require("tokenizer")
    assert caught.value.key == "tokenizer"
    if name != "config.yaml":
        with pytest.raises(FileNotFoundError, match="expected a regular file" if name == "config.json" else "config.json"):
            load(tmp_path)


@pytest.mark.parametrize("make", [*SPECIAL.values(), folder])
@pytest.mark.parametrize("name", ["result.json", "environment.json", "overrides.yaml"])
def test_a_file_of_a_run_that_is_none_is_named(name, make, tmp_path):
    make(tmp_path / name)
    run = RunFolder(tmp_path)
    with pytest.raises(DamagedFile) as caught:
        _ = run.result, run.described, run.overrides
    assert caught.value.path == tmp_path / name


@pytest.mark.parametrize("make", [*SPECIAL.values(), folder])
def test_a_lock_that_is_no_file_is_refused_and_locks_nothing(make, tmp_path):
    make(tmp_path / "lock.json")
    run = RunFolder(tmp_path)
    assert not run.in_use
    with pytest.raises(RunFolderError), run.lock():
        pass


@pytest.mark.parametrize("make", [*SPECIAL.values(), folder])
def test_a_checkpoint_that_is_no_file_counts_as_damaged(make, tmp_path):
    make(tmp_path / "updates_00000004.ckpt")
    with pytest.raises(DamagedFile):
        verify(tmp_path / "updates_00000004.ckpt")
    assert list(sound_checkpoints(tmp_path, set_aside=True)) == []
    assert [path.name for path in tmp_path.iterdir()] == ["updates_00000004.ckpt.bad"]


@pytest.mark.parametrize(("kind", "make"), [*SPECIAL.items(), ("a folder", folder)])
def test_weights_that_are_no_file_are_named_by_their_kind(kind, make, tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    make(FILES["alexnet"].path)
    with pytest.raises(MissingWeightsError, match=f"which is {kind}") as caught:
        find_weights("alexnet")
    assert caught.value.name == "alexnet"


@pytest.mark.parametrize("make", [*SPECIAL.values(), folder])
def test_a_configuration_file_that_is_none_is_no_choice(make, tmp_path):
    for group in ("quantizer", "sweep"):
        (tmp_path / group).mkdir()
        make(tmp_path / group / "odd.yaml")
    for verb, word, key in (("train", "quantizer=odd", "quantizer"), ("sweep", "table=odd", "table")):
        error = refused(verb, word, f"--config-dir={tmp_path}")
        assert (error.key, error.value) == (key, "odd")
