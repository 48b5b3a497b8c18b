"""A training that is killed again and again, mostly while it saves, ends as one that never was."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from experiments.config.compose import compose
from experiments.runs.checkpoints import STATE, load_checkpoint, newest_checkpoint
from experiments.runs.folder import RunFolder
from experiments.training.loop import train

KILLS, UPDATES = 20, 60
WORDS = [
    "scale=smoke", "data=digits", "discriminator=none", f"updates={UPDATES}", "checkpoint_every=1", f"validate_every={UPDATES}",
    "log_every=1", "workers=0",
]  # fmt: skip
SECONDS_PER_SAVE = 0.05


def run(folder: Path) -> None:
    overrides = [*WORDS, f"runs_folder={folder}"]
    assert train(compose("train", overrides).config, overrides, "test") == 0


def run_with_slow_disk(folder: Path) -> None:
    """A run whose writes take so long that most moments are within one."""
    synchronize = os.fsync

    def slow(descriptor: int) -> None:
        time.sleep(SECONDS_PER_SAVE)
        synchronize(descriptor)

    os.fsync = slow
    run(folder)


def the_folder(folder: Path) -> RunFolder:
    (path,) = (folder / "test").iterdir()
    return RunFolder(path)


def state_of(path: Path) -> dict:
    checkpoint = load_checkpoint(path)
    return {**checkpoint["state_dict"], **{f"average {name}": value for name, value in checkpoint[STATE]["average"].items()}}


@pytest.mark.slow
def test_after_every_one_of_twenty_kills_the_newest_checkpoint_loads_and_training_ends_with_the_same_bits(tmp_path):
    run(tmp_path / "whole")
    moments, unfinished = random.Random(0), 0
    for number in range(KILLS):
        process = multiprocessing.get_context("fork").Process(target=run_with_slow_disk, args=[tmp_path / "killed"])
        process.start()
        wait_for_a_save(tmp_path / "killed", process)
        time.sleep(moments.uniform(0, 3 * SECONDS_PER_SAVE))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"the run ended before kill {number}"
        folder = the_folder(tmp_path / "killed")
        unfinished += any(folder.checkpoints.glob(".*.tmp"))
        newest = newest_checkpoint(folder.checkpoints)
        assert newest == folder.checkpoint_files[-1]
        assert load_checkpoint(newest)[STATE]["updates"] == int(newest.stem.removeprefix("updates_"))
    assert unfinished >= KILLS // 4  # the kills did hit saves
    run(tmp_path / "killed")
    folder, whole = the_folder(tmp_path / "killed"), the_folder(tmp_path / "whole")
    assert not any(folder.path.rglob("*.tmp"))
    ours, expected = state_of(folder.checkpoint_files[-1]), state_of(whole.checkpoint_files[-1])
    assert list(ours) == list(expected)
    assert all(torch.equal(ours[name], value) for name, value in expected.items())


def wait_for_a_save(folder: Path, process: multiprocessing.Process) -> None:
    """Wait until the process saved a checkpoint that was not there when it started."""
    before = set(folder.glob("test/*/checkpoints/updates_*"))
    while process.is_alive() and set(folder.glob("test/*/checkpoints/updates_*")) <= before:
        time.sleep(0.005)
