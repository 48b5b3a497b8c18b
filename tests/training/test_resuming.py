"""Resuming a run: with the same data, the same first weights, the same length, and to the same bits."""

import errno
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.config.compose import compose
from experiments.config.errors import ConfigError, RunFolderError
from experiments.config.parsing import write_mapping
from experiments.runs.checkpoints import STATE, load_checkpoint
from experiments.runs.folder import RunFolder
from experiments.training import loop
from experiments.training.callbacks.validation import Validation
from experiments.training.loop import train
from experiments.training.tokenizer_task import TokenizerTask

WORDS = [
    "scale=smoke", "data=photos", "data.cuts_per_picture=1", "codebook_size=64", "groups=8", "schedule=constant",
    "schedule@discriminator_schedule=constant", "validate_every=9",
]  # fmt: skip


class Killed(BaseException):
    """Stands for a process that is killed."""


def run(folder: Path, *words: str) -> int:
    overrides = [*WORDS, f"runs_folder={folder}", *words]
    return train(compose("train", overrides).config, overrides, "test")


def folders(folder: Path) -> list[RunFolder]:
    return [RunFolder(path) for path in (folder / "test").iterdir()]


def final_state(folder: RunFolder) -> dict:
    return load_checkpoint(folder.checkpoint_files[-1])


def stop_before_batch(number: int, patch: pytest.MonkeyPatch) -> None:
    step = TokenizerTask.training_step

    def killed(task, batch, index):
        if task.batches == number:
            raise Killed
        return step(task, batch, index)

    patch.setattr(TokenizerTask, "training_step", killed)


@pytest.mark.parametrize(
    ("words", "batches"),
    [(["accumulate=2"], 3), (["discriminator=patchgan", "discriminator.width=8"], 1)],
    ids=["between the two parts of a batch", "with batch norm in the discriminator"],
)
def test_a_stopped_run_resumes_to_the_same_bits(words, batches, tmp_path, monkeypatch):
    assert run(tmp_path / "whole", *words) == 0
    with monkeypatch.context() as patch:
        stop_before_batch(batches, patch)
        with pytest.raises(Killed):
            run(tmp_path / "stopped", *words)
    assert run(tmp_path / "stopped", *words) == 0
    (whole,), (stopped,) = folders(tmp_path / "whole"), folders(tmp_path / "stopped")
    expected, ours = final_state(whole), final_state(stopped)
    assert ours[STATE]["batches"] == expected[STATE]["batches"] == 2 * (2 if "accumulate=2" in words else 1)
    assert list(ours["state_dict"]) == list(expected["state_dict"])
    assert any("running_mean" in name for name in expected["state_dict"]) == ("discriminator=patchgan" in words)
    for name, value in expected["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name
    for name, value in expected[STATE]["average"].items():
        assert torch.equal(ours[STATE]["average"][name], value), name
    for theirs, own in zip(expected["optimizer_states"], ours["optimizer_states"], strict=True):
        for number, moments in theirs["state"].items():
            assert all(torch.equal(own["state"][number][name], value) for name, value in moments.items())


def test_a_run_does_not_resume_with_different_images(tmp_path):
    for place, sizes in (("a", (40, 41, 42)), ("b", (50, 51, 52))):
        (tmp_path / place).mkdir()
        for number, size in enumerate(sizes):
            noise = np.random.default_rng(size).integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / place / f"{number}.png")
    own = [word for word in WORDS if not word.startswith("data")]

    def go(*more: str) -> int:
        overrides = [*own, "data=image_folder", "updates=1", f"runs_folder={tmp_path / 'runs'}", *more]
        return train(compose("train", overrides).config, overrides, "test")

    assert go(f"data.root={tmp_path / 'a'}") == 0
    (folder,) = folders(tmp_path / "runs")
    with pytest.raises(RunFolderError) as caught:
        go(f"data.root={tmp_path / 'b'}", "updates=2", f"resume={folder.path}")
    assert [key for key, _, _ in caught.value.changes] == ["content of data"]
    (tmp_path / "a").rename(tmp_path / "moved")
    assert go(f"data.root={tmp_path / 'moved'}", "updates=2", f"resume={folder.path}") == 0


def test_first_weights_are_read_once_and_known_by_their_content(tmp_path, monkeypatch):
    assert run(tmp_path / "sources", "updates=1") == 0
    (source,) = folders(tmp_path / "sources")
    words = [f"init_from={source.path}", "learning_rate=0.0"]
    with monkeypatch.context() as patch:
        stop_before_batch(1, patch)
        with pytest.raises(Killed):
            run(tmp_path / "runs", *words)
    moved = shutil.move(source.path, tmp_path / "moved")
    reads = []
    with monkeypatch.context() as patch:
        patch.setattr("experiments.training.loop.initial_state", lambda *_: reads.append(1))
        assert run(tmp_path / "runs", f"init_from={moved}", *words[1:]) == 0
    assert reads == []
    assert len(folders(tmp_path / "runs")) == 1
    assert run(tmp_path / "runs", "updates=2", f"init_from={moved}", "rerun=true", *words[1:]) == 0
    (child,) = folders(tmp_path / "runs")
    assert json.loads((child.path / "environment.json").read_text())["contents"]["init_from"]
    assert run(tmp_path / "unused", "updates=2", f"resume={moved}") == 0
    assert run(tmp_path / "runs", f"init_from={moved}", *words[1:]) == 0
    assert len(folders(tmp_path / "runs")) == 2


def stopped_run(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> RunFolder:
    """A run of three updates that was killed after the second."""
    with monkeypatch.context() as patch:
        stop_before_batch(2, patch)
        with pytest.raises(Killed):
            run(folder, "updates=3", "checkpoint_every=1", *words)
    (found,) = folders(folder)
    return found


def test_damaged_checkpoints_are_set_aside_and_do_not_push_out_good_ones(tmp_path, monkeypatch, caplog):
    folder = stopped_run(tmp_path, monkeypatch, "keep_checkpoints=1")
    (folder.checkpoints / "updates_00000009.ckpt").write_bytes(b"half")
    (folder.checkpoints / "updates_00000009.ckpt.bad").write_bytes(b"set aside earlier")
    assert [path.name for path in folder.checkpoint_files] == ["updates_00000002.ckpt", "updates_00000009.ckpt"]
    with caplog.at_level(logging.WARNING, "experiments"):
        assert run(tmp_path, "updates=3", "checkpoint_every=1", "keep_checkpoints=1") == 0
    assert "updates_00000009.ckpt" in caplog.text
    assert [path.name for path in folder.checkpoint_files] == ["updates_00000003.ckpt"]
    aside = {path.name: path.read_bytes() for path in folder.checkpoints.glob("*.bad*")}
    assert aside == {"updates_00000009.ckpt.bad": b"set aside earlier", "updates_00000009.ckpt.bad2": b"half"}


def test_a_checkpoint_that_may_not_be_read_stops_the_run_and_everything_stays(tmp_path, monkeypatch):
    folder = stopped_run(tmp_path, monkeypatch)
    newest, state = folder.checkpoint_files[-1], sorted(path.name for path in folder.path.rglob("*"))

    def refused(path, *arguments):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("experiments.runs.integrity._verify", refused)
        with pytest.raises(PermissionError) as caught:
            run(tmp_path, "updates=3", "checkpoint_every=1")
    assert caught.value.filename == str(newest.absolute())
    assert sorted(path.name for path in folder.path.rglob("*")) == state
    assert folder.state == "running"


def test_an_explicit_resume_never_starts_again(tmp_path, monkeypatch):
    folder = stopped_run(tmp_path, monkeypatch)
    for file in folder.checkpoint_files:
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, "updates=3", "checkpoint_every=1", f"resume={folder.path}")
    assert (caught.value.key, caught.value.value) == ("resume", str(folder.path))
    assert len(list(folder.checkpoints.glob("*.bad"))) == 2
    with pytest.raises(ConfigError) as caught:  # and now it has none
        run(tmp_path, "updates=3", "checkpoint_every=1", f"resume={folder.path}")
    assert caught.value.key == "resume"
    assert folder.state == "running"


def test_a_run_with_only_validation_left_is_evaluated_before_its_trainer_releases_the_device(tmp_path, monkeypatch):
    write, validate = RunFolder.write_result, Validation.run
    states = []

    def killed(self, state, *args, **kwargs):
        if state == "done":
            raise Killed
        return write(self, state, *args, **kwargs)

    def watched(self, trainer, task):
        states.append(str(trainer.state.status.value))
        return validate(self, trainer, task)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_result", killed)
        with pytest.raises(Killed):
            run(tmp_path, "updates=1")
    monkeypatch.setattr(Validation, "run", watched)
    assert run(tmp_path, "updates=1") == 0
    assert states == ["running"]
    assert folders(tmp_path)[0].result["metrics"]["val/psnr"] > 0


def test_a_repeated_run_looks_at_no_checkpoint(tmp_path, monkeypatch):
    """With several processes, one may still list a checkpoint that another is removing."""
    assert run(tmp_path, "updates=1") == 0
    (folder,) = folders(tmp_path)

    def refuse(*_):
        raise AssertionError("listed")

    monkeypatch.setattr("experiments.training.loop.sound_checkpoints", refuse)
    assert run(tmp_path, "updates=1", "rerun=true") == 0
    assert folder.state == "done"


def test_a_run_that_another_process_lengthens_before_the_lock_is_refused(tmp_path, monkeypatch):
    assert run(tmp_path, "updates=1") == 0
    (folder,) = folders(tmp_path)
    folder.write_result("running", {}, {})
    build_task = loop.build_task

    def lengthened_meanwhile(*arguments):
        config = folder.config
        write_mapping(folder.path / "config.yaml", {**config, "task": {**config["task"], "updates": 2}})
        return build_task(*arguments)

    monkeypatch.setattr(loop, "build_task", lengthened_meanwhile)
    files = {path.name for path in folder.path.rglob("*")}
    with pytest.raises(RunFolderError) as caught:
        run(tmp_path, "updates=1")
    assert caught.value.changes == [("task.updates", 2, 1)]
    assert {path.name for path in folder.path.rglob("*")} == files


def test_a_run_that_another_process_finishes_before_the_lock_is_reported(tmp_path, monkeypatch):
    assert run(tmp_path, "updates=1") == 0
    (folder,) = folders(tmp_path)
    result = (folder.path / "result.json").read_text()
    folder.write_result("running", {}, {})
    build_task = loop.build_task

    def finished_meanwhile(*arguments):
        task = build_task(*arguments)
        (folder.path / "result.json").write_text(result)
        return task

    monkeypatch.setattr(loop, "build_task", finished_meanwhile)
    files = [path for path in folder.path.rglob("*.*") if path.name != "result.json"]
    before = [path.stat().st_mtime_ns for path in files]
    assert run(tmp_path, "updates=1") == 0
    assert [path.stat().st_mtime_ns for path in files] == before
    assert folder.state == "done"
