"""Identity, states, atomic files and locks of run folders."""

import json
import os
import subprocess
import sys

import pytest

from experiments.compose import compose
from experiments.run_folder import RunFolder, RunFolderError, differences, identity, write_atomic


def config_of(*words):
    return compose("train", ["quantizer=gsq", *words]).config


@pytest.mark.parametrize(
    "words",
    [
        ["workers=0"],
        ["logger=wandb"],
        ["trainer=cpu"],
        ["trainer.devices=2"],
        ["runs_folder=elsewhere"],
        ["keep_checkpoints=5"],
        ["log_every=7"],
    ],
)
def test_what_changes_no_number_changes_no_identity(words):
    assert identity(config_of(*words), "data") == identity(config_of(), "data")


@pytest.mark.parametrize(
    "words",
    [
        ["seed=1"],
        ["updates=7"],
        ["batch_size=8"],
        ["groups=8"],
        ["trainer.precision=bf16-mixed"],
        ["loss.weights.commitment=1"],
        ["image_size=32"],
    ],
)
def test_what_changes_numbers_changes_the_identity(words):
    assert identity(config_of(*words), "data") != identity(config_of(), "data")


def test_other_data_changes_the_identity_but_another_place_of_the_same_data_does_not(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    configs = [config_of("data=image_folder", f"data.root={tmp_path / name}") for name in "ab"]
    assert identity(configs[0], "x") == identity(configs[1], "x") != identity(configs[0], "y")


def test_states_follow_the_result_file(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.state == "absent"
    folder.start(config_of(), ["groups=8"])
    assert folder.state == "running"
    folder.write_result("done", {"val/psnr": 21.5}, {"val/psnr": {"n": 3}})
    assert folder.state == "done"
    assert folder.result["metrics"]["val/psnr"] == 21.5
    assert folder.config == config_of()


def test_a_start_removes_what_a_killed_process_left_half_written(tmp_path):
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    leftover = folder.checkpoints / ".updates_00000001.ckpt.123.tmp"
    leftover.write_text("half")
    folder.start(config_of(), [])
    assert not leftover.exists()


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "file.json"
    write_atomic(file, "old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(file, "new")
    assert file.read_text() == "old"


def test_a_folder_in_use_is_refused_with_its_owner(tmp_path):
    with RunFolder(tmp_path).lock():
        with pytest.raises(RunFolderError, match=f"process {os.getpid()} on"), RunFolder(tmp_path).lock():
            pass
    assert not (tmp_path / "lock.json").exists()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    take = f"from experiments.run_folder import RunFolder; held = RunFolder({str(tmp_path)!r}).lock(); held.__enter__()"
    script = f"import os; {take}; os._exit(9)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert (tmp_path / "lock.json").exists()
    with RunFolder(tmp_path).lock():
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()


def test_differences_name_every_leaf():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "d": 4}}) == ["a.b: 1 -> 3", "a.c: 2 -> None", "a.d: None -> 4"]


def test_only_the_length_may_change_when_resuming(tmp_path):
    folder = RunFolder(tmp_path)
    folder.start(config_of("learning_rate=0.25"), [])
    assert folder.changes(config_of("learning_rate=0.25", "updates=5000", "logger=wandb")) == []
    assert folder.changes(config_of("learning_rate=0.5")) == ["task.optimizer.learning_rate: 0.25 -> 0.5"]


def test_a_result_is_valid_json_or_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        RunFolder(tmp_path).write_result("done", {"val/psnr": float("inf")}, {})
    assert not (tmp_path / "result.json").exists()
