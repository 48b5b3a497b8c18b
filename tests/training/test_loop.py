"""Whole runs through the command's own path: results, repeating, lengthening, refusing."""

import json
import logging

import pytest
import torch

from experiments.config.compose import compose
from experiments.config.errors import ConfigError, DiskFull, RunFolderError
from experiments.runs.checkpoints import STATE, load_checkpoint, newest_checkpoint
from experiments.runs.folder import RunFolder
from experiments.runs.models import load_tokenizer
from experiments.training.loop import train
from experiments.training.tokenizer_task import TokenizerTask
from tests.training.whole_runs import WORDS, rows, run, the_folder
from tokenizer.interfaces import ImageBatch


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> RunFolder:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert run(folder) == 0
    return the_folder(folder)


def test_a_run_folder_has_the_documented_contents(uninterrupted):
    names = {path.name for path in uninterrupted.path.iterdir()}
    assert names == {"config.yaml", "overrides.yaml", "environment.json", "metrics.csv", "result.json", "images", "checkpoints"}
    result = json.loads((uninterrupted.path / "result.json").read_text())
    assert result["state"] == "done"
    for key in (
        "val/psnr",
        "val/psnr_bicubic",
        "val/codebook_usage",
        "val/perplexity",
        "val/bits_per_token",
        "val_raw/psnr",
        "perf/seconds",
    ):
        assert isinstance(result["metrics"][key], float), key
    assert result["metrics"]["model/parameters"] == sum(p.numel() for p in load_tokenizer(uninterrupted.path)[0].parameters())
    assert result["cards"]["val/psnr"]["n"] > 0
    assert result["cards"]["val/psnr"]["subject"] == "ema"
    assert sorted(path.name for path in (uninterrupted.path / "images").iterdir()) == ["updates_00000003.png", "updates_00000006.png"]
    assert sorted(path.name for path in uninterrupted.checkpoints.iterdir()) == ["updates_00000005.ckpt", "updates_00000006.ckpt"]


def test_the_table_has_a_row_for_every_update_and_validation(uninterrupted):
    assert [row["updates"] for row in rows(uninterrupted)] == ["1", "2", "3", "3", "4", "5", "6", "6"]
    assert all(row["train/loss/reconstruction"] or row["val/psnr"] for row in rows(uninterrupted))


def test_a_finished_run_is_reported_and_not_repeated(uninterrupted, capsys, monkeypatch):
    before = (uninterrupted.path / "result.json").stat().st_mtime_ns

    def refuse(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(TokenizerTask, "training_step", refuse)
    assert run(uninterrupted.path.parent.parent) == 0
    assert "psnr" in capsys.readouterr().out
    assert (uninterrupted.path / "result.json").stat().st_mtime_ns == before


def test_a_run_of_the_same_configuration_serves_another_experiment(uninterrupted, capsys):
    folder = uninterrupted.path.parent.parent
    overrides = [*WORDS, f"runs_folder={folder}"]
    assert train(compose("train", overrides).config, overrides, "another") == 0
    assert "psnr" in capsys.readouterr().out
    assert not (folder / "another").exists()


def test_rerun_repeats_a_finished_run(uninterrupted, tmp_path):
    assert run(tmp_path) == 0
    assert run(tmp_path, "rerun=true") == 0
    assert rows(the_folder(tmp_path)) == rows(uninterrupted)


def test_a_longer_run_resumes_a_folder_and_another_configuration_is_refused(tmp_path):
    assert run(tmp_path, "schedule=constant", "updates=2") == 0
    path = the_folder(tmp_path).path
    with pytest.raises(RunFolderError) as refused:
        run(tmp_path, "schedule=constant", "updates=4", f"resume={path}", "learning_rate=0.5")
    assert "task.optimizer.learning_rate" in [key for key, _, _ in refused.value.changes]
    assert run(tmp_path, "schedule=constant", "updates=4", f"resume={path}") == 0
    assert [row["updates"] for row in rows(RunFolder(path)) if row["train/loss/reconstruction"]] == ["1", "2", "3", "4"]
    with pytest.raises(ConfigError, match=r"updates=3: .*updates_00000004\.ckpt"):
        run(tmp_path, "schedule=constant", "updates=3", f"resume={path}")
    assert RunFolder(path).state == "done"


def test_another_run_can_be_started_from_trained_weights(uninterrupted, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "experiments"):
        assert run(tmp_path, f"init_from={uninterrupted.path}", "codebook_size=32", "updates=1", "learning_rate=0.0") == 0
    assert "1 tensors missing there: quantizer.codebook" in caplog.text
    assert "1 tensors unused: quantizer.codebook" in caplog.text
    ours = load_checkpoint(newest_checkpoint(the_folder(tmp_path).checkpoints))["state_dict"]
    theirs = load_checkpoint(newest_checkpoint(uninterrupted.checkpoints))[STATE]["average"]
    assert torch.equal(ours["tokenizer.encoder.stem.weight"], theirs["encoder.stem.weight"])


def test_a_full_disk_is_one_message_and_the_earlier_checkpoint_stays(tmp_path, monkeypatch):
    from experiments.runs import checkpoints

    usage = checkpoints.shutil.disk_usage
    calls = []

    def full(path):
        calls.append(path)
        return usage(path)._replace(free=1000) if len(calls) > 2 else usage(path)

    monkeypatch.setattr(checkpoints.shutil, "disk_usage", full)
    with pytest.raises(DiskFull, match="1,000 bytes are free") as caught:
        run(tmp_path)
    assert caught.value.path.name == "updates_00000003.ckpt"
    assert caught.value.needed > 1000
    folder = the_folder(tmp_path)
    assert folder.state == "failed"
    assert newest_checkpoint(folder.checkpoints).name == "updates_00000002.ckpt"


def test_running_out_of_memory_names_the_key_to_lower(tmp_path, monkeypatch):
    def exhausted(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(TokenizerTask, "training_step", exhausted)
    with pytest.raises(ConfigError, match="Tried to allocate") as caught:
        run(tmp_path)
    assert (caught.value.key, caught.value.value) == ("batch_size", 4)


def test_a_wrong_size_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, "image_size=30", "discriminator=none")
    assert (caught.value.key, caught.value.value, caught.value.nearest) == ("image_size", 30, "24 or 32")
    assert list(tmp_path.iterdir()) == []


def test_no_batch_of_training_is_waited_for_when_it_is_copied_to_the_device(tmp_path, monkeypatch):
    """Lightning itself copies without waiting only batches that are tensors."""
    copies = []
    to = ImageBatch.to
    monkeypatch.setattr(ImageBatch, "to", lambda batch, *args, **kwargs: copies.append(kwargs) or to(batch, *args, **kwargs))
    assert run(tmp_path, "updates=3") == 0
    assert copies[:3] == [{"non_blocking": True}] * 3
    assert all(kwargs == {"non_blocking": True} for kwargs in copies)
