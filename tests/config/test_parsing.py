"""YAML and JSON of anybody: bounds, doubled keys and one message, whichever part of the project reads it."""

import json
import time
from pathlib import Path

import pytest

from experiments.config import parsing
from experiments.config.compose import CONF, compose
from experiments.config.errors import ConfigError, DamagedFile, RunFolderError
from experiments.config.files import ConfigFolders, read_defaults, read_yaml
from experiments.config.help_text import help_text
from experiments.config.parsing import DEEPEST, parse_yaml, read_file
from experiments.runs.locks import LOCK, lock
from experiments.tables.reading import read_sweep

SECONDS = 10.0
BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]\n" for number in range(1, 12)
)
HOSTILE = {
    "doubled": ("width: 8\nother:\n  depth: 1\n  depth: 2\n", "the key depth is there twice, again in line 4"),
    "deep": ("width: " + "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), f"nested deeper than {DEEPEST} levels"),
    "very deep": ("width: " + "[" * 20_000, ""),
    "bomb": (BOMB, "more than 20,000 values"),
    "large": ("# " + "x" * 2**20, "expected at most 1,048,576"),
    "tagged": ("width: !!python/object/apply:os.getcwd []", ""),
    "no text": (b"width: \xff\xfe", ""),
    "no YAML": ("width: [1", ""),
}


def write(file: Path, content: str | bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.fixture(autouse=True)
def _fewer_values(monkeypatch):
    monkeypatch.setattr(parsing, "MOST_VALUES", 20_000)  # to count fewer takes less time


@pytest.fixture(params=HOSTILE)
def hostile(request) -> tuple[str | bytes, str]:
    return HOSTILE[request.param]


@pytest.mark.parametrize("read", [read_file, read_yaml, read_defaults])
def test_a_hostile_file_is_refused_in_one_line_by_every_reader(read, hostile, tmp_path):
    content, reason = hostile
    started = time.monotonic()
    with pytest.raises(DamagedFile) as caught:
        read(write(tmp_path / "a.yaml", content))
    assert time.monotonic() - started < SECONDS
    assert reason in caught.value.reason
    assert caught.value.path == tmp_path / "a.yaml"
    assert "\n" not in str(caught.value)


def test_a_hostile_file_of_an_added_folder_is_named_before_hydra_reads_it(hostile, tmp_path):
    content, reason = hostile
    write(tmp_path / "more" / "experiment" / "theirs.yaml", content)
    started = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        compose("train", [f"--config-dir={tmp_path / 'more'}", "experiment=theirs"])
    assert time.monotonic() - started < SECONDS
    assert caught.value.key == "more/experiment/theirs.yaml"
    assert reason in caught.value.reason


def test_a_hostile_file_that_nobody_chooses_stops_nothing(tmp_path):
    write(tmp_path / "more" / "experiment" / "theirs.yaml", BOMB)
    assert compose("train", [f"--config-dir={tmp_path / 'more'}"]).config["updates"] == 2000


def test_a_hostile_sweep_file_is_named(hostile, tmp_path):
    content, reason = hostile
    write(tmp_path / "more" / "sweep" / "theirs.yaml", content)
    with pytest.raises(ConfigError) as caught:
        read_sweep("theirs", CONF, (tmp_path / "more",))
    assert caught.value.key == "more/sweep/theirs.yaml"
    assert reason in caught.value.reason


def test_help_refuses_a_hostile_main_file(tmp_path):
    write(tmp_path / "train.yaml", BOMB)
    with pytest.raises(DamagedFile):
        help_text("train", "", ConfigFolders(tmp_path))


@pytest.mark.parametrize("owner", ["[" * 100_000, '{"pid": 1, "pid": 2}', "[]", "{"])
def test_a_damaged_lock_file_of_another_process_is_still_a_lock(owner, tmp_path):
    with lock(tmp_path):
        (tmp_path / LOCK).write_text(owner)
        with pytest.raises(RunFolderError, match="another process"), lock(tmp_path):
            pass


def test_dates_are_text_and_survive_writing():
    assert parse_yaml("day: 2024-01-31\n") == {"day": "2024-01-31"}


def test_json_with_a_doubled_key_is_refused(tmp_path):
    file = write(tmp_path / "a.json", '{"state": "done", "inner": {"a": 1, "a": 2}}')
    with pytest.raises(DamagedFile, match="the key a is there twice"):
        read_file(file)
    assert read_file(write(tmp_path / "b.json", json.dumps({"state": "done"}))) == {"state": "done"}
