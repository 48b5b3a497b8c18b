"""metrics.csv after its writer was killed, W&B without a network, and loggers that fail."""

import csv
import json
import logging
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from experiments.config.compose import compose
from experiments.evaluation.reconstruction import Evaluation
from experiments.runs.folder import RunFolder
from experiments.training.callbacks import loggers
from experiments.training.callbacks.loggers import MetricsTable, Tolerant, WandbRun, WeightsAndBiases
from experiments.training.loop import train

HEAD = "updates,train/loss/reconstruction,val/psnr\n1,0.5,\n1,,21.5\n2,0.25,\n"


@pytest.mark.parametrize("torn", ["3", "3,0.1", "3,0.12", "3,0.125,\n,,\n", "3,0.1,2,4\n", "3\n", "\0\0\0", "x,0.1,\n", "3,0.1x,\n"])
def test_a_torn_row_is_dropped_and_the_rows_before_it_stay(torn, tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text(HEAD + torn)
    table = MetricsTable(file, resumed_at=2)
    assert file.read_text().splitlines() == HEAD.splitlines()
    table.log_metrics({"train/loss/reconstruction": 0.125}, step=3)
    assert file.read_text().splitlines() == [*HEAD.splitlines(), "3,0.125,"]


def test_rows_of_the_validation_that_a_resumed_run_repeats_are_dropped(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text(HEAD + "2,,22.5\n")
    MetricsTable(file, resumed_at=2)
    assert file.read_text().splitlines() == [*HEAD.splitlines(), "2,,22.5"]
    MetricsTable(file, resumed_at=2, validates=True)
    assert file.read_text().splitlines() == HEAD.splitlines()


def test_a_row_without_its_end_is_dropped_although_it_has_every_column(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text(HEAD + "2,,21.")
    MetricsTable(file, resumed_at=2)
    assert file.read_text().splitlines() == HEAD.splitlines()


COUNTS = torch.tensor([[1, 1, 1, 1], [8, 8, 0, 0]])


def evaluation(counts: torch.Tensor | None = COUNTS) -> Evaluation:
    nothing = torch.empty(0)
    return Evaluation(
        values={"val/psnr": 20.0}, cards={}, skipped={}, unreadable=[], images=nothing, reconstructions=nothing, counts=counts
    )


def save_red_image(folder: Path) -> Path:
    Image.new("RGB", (8, 8), "red").save(folder / "red.png")
    return folder / "red.png"


@pytest.fixture
def logged(monkeypatch) -> list[dict]:
    """Rows logged to a W&B run."""
    rows: list[dict] = []
    monkeypatch.setattr(WandbRun, "experiment", SimpleNamespace(log=rows.append))
    return rows


def test_an_evaluation_logs_its_figure_and_the_code_usage_of_each_group(logged, tmp_path):
    Tolerant(WandbRun(save_dir=tmp_path, offline=True)).log_evaluation(evaluation(), save_red_image(tmp_path), step=7)
    (row,) = logged
    assert row["trainer/global_step"] == 7
    assert row["val/comparison"].image.size == (8, 8)
    assert [row[f"val/codebook_usage_group/0{group}"] for group in (0, 1)] == [1.0, 0.5]
    assert [row[f"val/perplexity_group/0{group}"] for group in (0, 1)] == pytest.approx([4.0, 2.0])
    histogram = row["val/codebook_counts"]
    assert (histogram.bins[0], histogram.bins[-1]) == (1, 9)  # over groups the codes were chosen 9, 9, 1 and 1 times
    assert [histogram.histogram[0], histogram.histogram[-1], sum(histogram.histogram)] == [2, 2, 4]


def test_an_evaluation_without_counts_or_figure_logs_the_rest(logged, tmp_path):
    Tolerant(WandbRun(save_dir=tmp_path, offline=True)).log_evaluation(evaluation(counts=None), None, step=7)
    assert logged == [{"trainer/global_step": 7}]


def test_a_logger_that_fails_warns_once(caplog):
    class Broken(MetricsTable):
        def __init__(self):
            pass

        def log_metrics(self, metrics, step=None):
            raise OSError("no route to host\nand much more")

        def finalize(self, status):
            raise RuntimeError

    logger = Tolerant(Broken())
    with caplog.at_level(logging.WARNING, "experiments"):
        for step in range(3):
            logger.log_metrics({"val/psnr": 20.0}, step)
        logger.log_evaluation(evaluation(), None, 3)
        logger.finalize("success")
    assert [record.message for record in caplog.records] == ["Broken does not log (no route to host); metrics.csv is written all the same"]


@pytest.mark.slow
def test_a_network_that_dies_during_a_run_stops_nothing(tmp_path, monkeypatch, caplog):
    answers = []

    def experiment(self):
        answers.append(None)
        if len(answers) > 2:
            raise ConnectionError("no route to host")
        return SimpleNamespace(log=answers.append, finish=lambda exit_code: None)

    monkeypatch.setattr(WandbRun, "experiment", property(experiment))
    monkeypatch.setenv("WANDB_MODE", "offline")
    words = ["scale=smoke", "logger=wandb", "codebook_size=64", "groups=8", "data.cuts_per_picture=1", f"runs_folder={tmp_path}"]
    with caplog.at_level(logging.WARNING, "experiments"):
        assert train(compose("train", words).config, words, "test") == 0
    assert caplog.text.count("no route to host") == 1
    (folder,) = (tmp_path / "test").iterdir()
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert [row["updates"] for row in rows] == ["1", "1", "2", "2"]
    keys = set(rows[0]) | set(json.loads((folder / "result.json").read_text())["metrics"])
    assert "val/codebook_usage" in keys
    assert not any("_group/" in key for key in keys)


def test_an_offline_run_is_stored_in_the_run_folder_and_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = RunFolder(tmp_path / "0123456789ab")
    folder.path.mkdir()
    settings = WeightsAndBiases(project="tessera", group="sevens", name="my run", tags=["a tag"])
    logger = settings.build(folder, name="gsq/0123456789ab", config={"seed": 0})
    assert isinstance(logger, Tolerant)
    run = logger.logger.experiment
    assert (run.name, run.group, run.tags, run.id, run.offline) == ("my run", "sevens", ("a tag",), folder.path.name, True)
    logger.log_metrics({"train/loss/total": 0.5}, step=1)
    logger.log_evaluation(evaluation(), save_red_image(tmp_path), step=1)
    logger.finalize("success")
    assert not logger.failed
    (written,) = folder.path.glob("wandb/offline-run-*/run-0123456789ab.wandb")
    keys = ("train/loss/total", "val/codebook_usage_group/01", "val/comparison", "val/codebook_counts")
    until = time.monotonic() + 20  # another process writes the file, and may end a little later
    while not all(key.encode() in written.read_bytes() for key in keys) and time.monotonic() < until:
        time.sleep(0.1)
    assert [key for key in keys if key.encode() not in written.read_bytes()] == []
    assert len(list(written.parent.glob("files/media/images/val/comparison*.png"))) == 1


def test_a_run_without_a_name_of_its_own_has_its_folders(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(loggers, "WandbRun", lambda **settings: asked.append(settings) or MetricsTable(tmp_path / "metrics.csv", 0))
    monkeypatch.setattr(MetricsTable, "experiment", None, raising=False)
    WeightsAndBiases("tessera", group=None, name=None, tags=[]).build(RunFolder(tmp_path), name="gsq/0123456789ab", config={})
    assert asked[0]["name"] == "gsq/0123456789ab"


@pytest.mark.parametrize(("variable", "seconds"), [(None, loggers.START_SECONDS), ("7", 7.0)])
def test_a_wait_for_the_network_is_bounded_and_named_before_it_begins(variable, seconds, tmp_path, monkeypatch, caplog):
    named = []

    def connect(*_, settings, **__):
        named.extend(record.args for record in caplog.records)
        assert (settings.init_timeout, settings.finish_timeout) == (seconds, loggers.END_SECONDS)
        raise TimeoutError

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_FINISH_TIMEOUT", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", variable) if variable else monkeypatch.delenv("WANDB_INIT_TIMEOUT", raising=False)
    monkeypatch.setattr(loggers, "WandbRun", connect)
    with caplog.at_level(logging.INFO, "experiments"):
        assert WeightsAndBiases("tessera", None, None, []).build(RunFolder(tmp_path), "name", {}) is None
    assert named == [(seconds,)]


@pytest.mark.parametrize("error", [TimeoutError(), RuntimeError("no network")])
def test_a_start_that_fails_stops_no_run_even_without_a_message(error, tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise error

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(loggers, "WandbRun", fail)
    with caplog.at_level(logging.WARNING, "experiments"):
        assert WeightsAndBiases("tessera", None, None, []).build(RunFolder(tmp_path), "name", {}) is None
    assert f"W&B did not start ({str(error) or 'TimeoutError'})" in caplog.text
