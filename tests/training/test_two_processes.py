"""Two processes with half a batch each match one process with the full batch: all losses, both optimizers, all statistics.

Adam divides a gradient by its magnitude, so a rounding error in a gradient near zero would become a full step; a larger `epsilon`
prevents this. The remaining difference is the order of float32 sums: 3e-8 was measured in the weights, 1e-6 is allowed.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.config.compose import compose
from experiments.config.packages import ROOT
from experiments.data.loading import ImageData
from experiments.runs.build import build
from experiments.runs.checkpoints import STATE, load_checkpoint
from experiments.runs.folder import RunFolder
from experiments.training.loop import train

WORDS = [
    "scale=smoke", "updates=4", "validate_every=4", "codebook_size=64", "groups=8", "schedule=constant",
    "schedule@discriminator_schedule=constant", "checkpoint_every=2", "data=image_folder", "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "loss.weights.entropy=0.1", "loss.inner.entropy.temperature=1", "loss.weights.total_coding_rate=0.01", "loss.weights.adversarial=0.1",
    "loss.adaptive_limit=1e4", "loss.weights.lecam=0.1", "loss.weights.gradient_penalty=0.1", "loss.adversarial.gradient_penalty.every=2",
    "discriminator_start=1", "optimizer.epsilon=1e-3", "discriminator_optimizer.epsilon=1e-3",
]  # fmt: skip
LAST = "updates_00000004.ckpt"
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def image_root(tmp_path_factory) -> Path:
    """Five training images, six validation images and one unreadable file: the last batch of the second process is empty."""
    root = tmp_path_factory.mktemp("images")
    for part, count in (("train", 5), ("val", 7)):
        (root / part).mkdir()
        for number in range(count):
            coarse = np.random.default_rng(number).integers(0, 256, (5, 6, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((48, 40), Image.Resampling.BILINEAR).save(root / part / f"{number}.png")
    (root / "val" / "5.png").write_text("not an image")
    return root


def two_processes(folder: Path, image_root: Path, program: list[str], trainer: str = "ddp") -> int:
    """Exit code of a run on two processes, which differs from the run on one process only in its trainer."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [*WORDS, f"trainer={trainer}", "trainer.devices=2", f"data.root={image_root}", f"runs_folder={folder}"]
    done = subprocess.run([sys.executable, *program, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def the_folder(folder: Path) -> RunFolder:
    (path,) = (folder / "gsq").iterdir()
    return RunFolder(path)


def one_process(folder: Path, image_root: Path) -> RunFolder:
    words = [*WORDS, "trainer.devices=1", f"data.root={image_root}", f"runs_folder={folder}"]
    assert train(compose("train", words).config, words, "gsq") == 0
    return the_folder(folder)


@pytest.fixture(scope="module")
def one(image_root, tmp_path_factory) -> RunFolder:
    return one_process(tmp_path_factory.mktemp("one"), image_root)


@pytest.fixture(scope="module", params=["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def two(request, image_root, tmp_path_factory) -> RunFolder:
    folder = tmp_path_factory.mktemp(request.param)
    assert two_processes(folder, image_root, ["-m", "experiments.train"], request.param) == 0
    return the_folder(folder)


def rows(folder: RunFolder) -> list[dict[str, float]]:
    with open(folder.path / "metrics.csv", newline="") as file:
        return [{k: float(v) for k, v in row.items() if v and not k.startswith("perf/")} for row in csv.DictReader(file)]


def assert_close(ours: dict, theirs: dict) -> None:
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


def test_two_processes_are_the_same_run_as_one(one, two):
    assert two.path.name == one.path.name


def test_the_weights_the_averages_and_the_optimizers_agree(one, two):
    ours, theirs = (load_checkpoint(folder.checkpoints / LAST) for folder in (two, one))
    assert_close(ours["state_dict"], theirs["state_dict"])
    assert theirs["state_dict"]["objective.adversarial.lecam.means"].abs().min() > 0
    assert_close(ours[STATE]["average"], theirs[STATE]["average"])
    assert {key: ours[STATE][key] for key in ("updates", "batches")} == {"updates": 4, "batches": 4}
    for index in (0, 1):
        state, expected = (each["optimizer_states"][index]["state"] for each in (ours, theirs))
        assert len(expected) > 5
        for parameter, moments in expected.items():
            assert_close(state[parameter], moments)


def test_logged_losses_are_those_of_the_joined_batch(one, two):
    ours, theirs = rows(two), rows(one)
    assert [row["updates"] for row in theirs] == [1, 2, 3, 4, 4]
    for name in ("reconstruction", "commitment", "codebook", "entropy", "total_coding_rate", "adversarial", "discriminator", "lecam"):
        assert f"train/loss/{name}" in theirs[-2], name
    assert theirs[-2]["train/loss/gradient_penalty"] > 0
    assert 0 < theirs[-2]["train/adversarial/adaptive_weight"] != 1
    for row, expected in zip(ours, theirs, strict=True):
        assert row == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_result_covers_all_images(one, two):
    ours, theirs = (json.loads((folder.path / "result.json").read_text()) for folder in (two, one))
    for result in (ours, theirs):
        result["metrics"].pop("perf/seconds")
    assert ours["state"] == "done"
    assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-6)
    assert ours["cards"] == theirs["cards"]
    assert ours["cards"]["val/psnr"]["n"] == 6
    assert ours["unreadable"] == theirs["unreadable"] == ["val/5.png"]


def test_a_reading_process_leaves_signals_to_its_training_process(image_root):
    """A terminal signals all processes; batches beyond the two prefetched ones still arrive."""
    config = compose("train", [*WORDS, f"data.root={image_root}", "workers=1"]).config
    loader = ImageData(build(config["data"]), config["batch_size"], config["seed"], config["workers"]).train_dataloader()
    stream = iter(loader)
    next(stream)
    (reader,) = loader._iterator._workers
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(reader.pid, number)
    assert [len(next(stream).keys) for _ in range(5)] == [4] * 5
    assert reader.is_alive()


INTERRUPTED = """
import os, signal, sys
from experiments import train
from experiments.data.loading import ImageData
from experiments.config.compose import main
from experiments.training.tokenizer_task import TokenizerTask

step = TokenizerTask.training_step

def signalled(task, batch, index):
    if (task.global_rank, task.updates) == (1, 1):
        os.kill(os.getpid(), signal.SIGTERM)
    return step(task, batch, index)

TokenizerTask.training_step = signalled
main("train", train.run, "")
"""


def rewound(folder: RunFolder, to: Path) -> Path:
    """A copy of a run as it was when it was stopped after two of four updates."""
    copy = RunFolder(shutil.copytree(folder.path, to / "gsq" / folder.path.name))
    (copy.checkpoints / LAST).unlink()
    copy.write_result("running", {}, {})
    return to


@pytest.mark.slow
def test_one_process_resumes_the_run_of_two_and_two_that_of_one(one, two, image_root, tmp_path):
    to_one, to_two = (rewound(folder, tmp_path / name) for folder, name in ((two, "two"), (one, "one")))
    one_process(to_one, image_root)
    assert two_processes(to_two, image_root, ["-m", "experiments.train"]) == 0
    expected = load_checkpoint(one.checkpoints / LAST)
    for folder in (to_one, to_two):
        ours = load_checkpoint(the_folder(folder).checkpoints / LAST)
        assert_close(ours["state_dict"], expected["state_dict"])
        assert_close(ours[STATE]["average"], expected[STATE]["average"])
        for row, row_of_one in zip(rows(the_folder(folder)), rows(one), strict=True):
            assert row == pytest.approx(row_of_one, rel=1e-5, abs=1e-6)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_and_the_run_resumes_to_the_same_bits(two, image_root, tmp_path):
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    assert two_processes(tmp_path, image_root, ["interrupted.py"]) == 128 + signal.SIGTERM
    folder = the_folder(tmp_path)
    assert folder.state == "running"
    assert [path.name for path in folder.checkpoints.iterdir()][-1:] == ["updates_00000002.ckpt"]
    assert two_processes(tmp_path, image_root, ["-m", "experiments.train"]) == 0
    ours, theirs = (load_checkpoint(each.checkpoints / LAST) for each in (folder, two))
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name
    for name, value in theirs[STATE]["average"].items():
        assert torch.equal(ours[STATE]["average"][name], value), name
    assert rows(folder) == rows(two)
