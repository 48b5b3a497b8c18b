"""Identity, states, atomic files and locks of run folders."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from experiments.config.command_line import is_first_process
from experiments.config.compose import compose
from experiments.config.errors import RunFolderError
from experiments.runs.folder import (
    RunFolder,
    differences,
    digest_of_config,
    find_run,
    identity,
    runs_by_config,
)

CONTENTS = {"data": "x", "init_from": None}


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
    assert identity(config_of(*words), CONTENTS) == identity(config_of(), CONTENTS)


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
    assert identity(config_of(*words), CONTENTS) != identity(config_of(), CONTENTS)


ALONE = ("discriminator=none",)


@pytest.mark.parametrize(
    "words",
    [
        ["discriminator_start=0"],
        ["discriminator_learning_rate=0.5"],
        ["schedule@discriminator_schedule=constant"],
        ["loss.weights.adversarial=0.3"],
        ["loss.adversarial.gan.generator=hinge"],
        ["loss.adaptive_limit=10.0"],
        ["loss.adversarial.lecam.decay=0.5"],
        ["loss.inner.entropy.temperature=2"],
    ],
)
def test_settings_without_effect_change_no_identity(words):
    """What is for a discriminator, where there is none; and of a loss that weighs nothing."""
    assert identity(config_of(*ALONE, *words), CONTENTS) == identity(config_of(*ALONE), CONTENTS)
    if "entropy" not in words[0] and "lecam" not in words[0]:
        assert identity(config_of(*words), CONTENTS) != identity(config_of(), CONTENTS)


def test_a_setting_of_a_loss_that_weighs_something_changes_the_identity():
    weighed = (*ALONE, "loss.weights.entropy=0.1")
    assert identity(config_of(*weighed, "loss.inner.entropy.temperature=2"), CONTENTS) != identity(config_of(*weighed), CONTENTS)


def test_a_run_is_found_under_whatever_experiment_it_was_made(tmp_path):
    config = config_of()
    for place in ("gsq/0123", "gsq/vae_f8_raw/4567"):
        RunFolder(tmp_path / place).start(config, [], CONTENTS)
        assert find_run(tmp_path, place[-4:]).path == tmp_path / place
    assert find_run(tmp_path, "89ab") is None
    os.utime(tmp_path / "gsq/0123/environment.json", (1, 1))
    assert runs_by_config(tmp_path)[digest_of_config(config)].path.name == "4567"
    os.utime(tmp_path / "gsq/vae_f8_raw/4567/environment.json", (0, 0))
    assert runs_by_config(tmp_path)[digest_of_config(config)].path.name == "0123"
    assert digest_of_config(config_of("seed=1")) not in runs_by_config(tmp_path)


def test_other_data_changes_the_identity_but_another_place_of_the_same_data_does_not(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    configs = [config_of("data=image_folder", f"data.root={tmp_path / name}") for name in "ab"]
    assert identity(configs[0], {"data": "x"}) == identity(configs[1], {"data": "x"}) != identity(configs[0], {"data": "y"})


def test_states_follow_the_result_file(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.state == "absent"
    folder.start(config_of(), ["groups=8"], CONTENTS)
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
    folder.start(config_of(), [], CONTENTS)
    assert not leftover.exists()


def test_a_folder_in_use_is_refused_with_its_owner(tmp_path):
    with RunFolder(tmp_path).lock():
        with pytest.raises(RunFolderError, match=f"process {os.getpid()} on"), RunFolder(tmp_path).lock():
            pass
    assert not (tmp_path / "lock.json").exists()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    take = f"from experiments.runs.folder import RunFolder; held = RunFolder({str(tmp_path)!r}).lock(); held.__enter__()"
    script = f"import os; {take}; os._exit(9)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert (tmp_path / "lock.json").exists()
    with RunFolder(tmp_path).lock():
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("text", ["", '{"host": "HERE", "pid": PID, "since": "then"}'])
def test_a_lock_file_that_nobody_holds_locks_nothing(text, tmp_path):
    """Its owner was ended by force; this process may have got its number."""
    (tmp_path / "lock.json").write_text(text.replace("HERE", socket.gethostname()).replace("PID", str(os.getpid())))
    with RunFolder(tmp_path).lock():
        assert json.loads((tmp_path / "lock.json").read_text())["since"] != "then"


def test_a_reading_process_that_outlives_its_owner_holds_nothing(tmp_path):
    script = f"""
import os, sys, time
from experiments.runs.folder import RunFolder
held = RunFolder({str(tmp_path)!r}).lock()
held.__enter__()
reader = os.fork()
if not reader:
    time.sleep(60)
print(reader, flush=True)
os._exit(9)
"""
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    reader = int(owner.stdout.readline())
    owner.wait()
    try:
        time.sleep(0.2)
        with RunFolder(tmp_path).lock():
            pass
    finally:
        os.kill(reader, signal.SIGKILL)
        owner.stdout.close()


def test_differences_name_every_leaf():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "d": 4}}) == [("a.b", 1, 3), ("a.c", 2, None), ("a.d", None, 4)]


def test_changes_are_those_that_change_numbers_the_data_and_the_first_weights_among_them(tmp_path):
    folder = RunFolder(tmp_path)
    folder.start(config_of("learning_rate=0.25"), [], CONTENTS)
    assert folder.changes(config_of("learning_rate=0.25", "workers=0", "logger=wandb"), CONTENTS) == []
    assert folder.changes(config_of("learning_rate=0.5"), CONTENTS) == [("task.optimizer.learning_rate", 0.25, 0.5)]
    changed = folder.changes(config_of("learning_rate=0.25", "updates=5000"), {"data": "y", "init_from": "z"})
    assert changed == [("content of data", "x", "y"), ("content of init_from", None, "z"), ("task.updates", 2000, 5000)]
    assert folder.changes(config_of("learning_rate=0.25"), {"data": "x"}) == []


def test_going_on_keeps_what_a_run_began_with(tmp_path):
    folder = RunFolder(tmp_path)
    folder.start(config_of(), [], {"data": "x", "init_from": "z"})
    folder.start(config_of(), [], {"data": "x"})
    assert folder.contents == {"data": "x", "init_from": "z"}


def test_the_identity_knows_no_path_of_the_first_weights():
    configs = [config_of(f"init_from=runs/{name}") for name in "ab"]
    assert identity(configs[0], CONTENTS) == identity(configs[1], CONTENTS)


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_the_first_process_is_first_by_every_launchers_count(name, monkeypatch):
    for other in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(other, raising=False)
    assert is_first_process()
    monkeypatch.setenv(name, "0")
    assert is_first_process()
    monkeypatch.setenv(name, "1")
    assert not is_first_process()


@pytest.mark.parametrize("name", ["checkpoints", "images"])
def test_a_folder_of_a_run_that_is_a_link_to_nothing_is_refused_before_anything_is_written(name, tmp_path):
    (tmp_path / name).symlink_to(tmp_path / "absent")
    with pytest.raises(RunFolderError) as caught:
        RunFolder(tmp_path).start(config_of(), [], CONTENTS)
    assert caught.value.path == tmp_path
    assert name in caught.value.reason
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_failure_is_recorded_although_the_disk_is_full(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.write_result("running", {f"val/{number}": 1.0 for number in range(200)}, {})

    def full(path, text):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("experiments.runs.folder.write_text", full)
    folder.write_failure(RuntimeError("two\nlines"))
    assert folder.result == {"state": "failed", "metrics": {}, "cards": {}, "error": "two lines"}


def test_whoever_looks_whether_a_folder_is_in_use_disturbs_no_owner(tmp_path):
    folder, stop = RunFolder(tmp_path), threading.Event()
    answers = []

    def look():
        while not stop.is_set():
            answers.append(folder.in_use)

    observer = threading.Thread(target=look)
    observer.start()
    try:
        for _ in range(200):
            with RunFolder(tmp_path).lock():
                pass
    finally:
        stop.set()
        observer.join()
    assert answers


def test_locks_register_one_handler_for_forks(tmp_path, monkeypatch):
    registered = []
    monkeypatch.setattr(os, "register_at_fork", lambda **handlers: registered.append(handlers))
    for _ in range(3):
        with RunFolder(tmp_path).lock():
            pass
    assert registered == []


def test_a_folder_in_place_of_the_lock_file_is_refused(tmp_path):
    (tmp_path / "lock.json").mkdir()
    with pytest.raises(RunFolderError) as caught, RunFolder(tmp_path).lock():
        pass
    assert "lock.json" in caught.value.reason


def test_a_lock_that_nothing_followed_leaves_no_folder(tmp_path):
    with RunFolder(tmp_path / "runs" / "gsq" / "id").lock():
        pass
    assert list(tmp_path.iterdir()) == []
