"""A generator trained by one process, by two data-parallel ones and by two that share its blocks: one run, one format of checkpoints."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.config.compose import compose
from experiments.config.overrides import last_of_each
from experiments.config.packages import ROOT
from experiments.runs.checkpoints import load_checkpoint
from experiments.runs.folder import RunFolder
from experiments.training.loop import train
from tests.training.made_models import GENERATOR, write_tokenizer, write_tokens

WORDS = [
    "generator.dropout=0", "generator.class_dropout=0", "optimizer.epsilon=1e-3", "validate_every=2", "ema_decay=0.5",
    "keep_checkpoints=9", "samples_shown=3", "accumulate=2",
]  # fmt: skip
TRAINERS = ("one", "ddp", "fsdp")
TWO = ["trainer.devices=2", "trainer.accelerator=cpu", "trainer.precision=32-true"]
CLOSE = {"rtol": 1e-5, "atol": 1e-7}  # 7e-9 was measured: the order of float32 sums

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    return write_tokens(folder / "c", write_tokenizer(folder / "tokenizer", classes=3))


def go(name: str, folder: Path, file: Path) -> RunFolder:
    """Train in `folder` to the end, from its last checkpoint if it has one."""
    words = last_of_each([*GENERATOR, *WORDS, f"data.file={file}", f"runs_folder={folder}"])
    if name == "one":
        assert train(compose("train", words).config, words, "ar") == 0
    else:
        words = [*(word for word in words if word != "trainer=cpu"), f"trainer={name}", f"recompute={str(name == 'fsdp').lower()}", *TWO]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "experiments.train", *words]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*/*")
    return RunFolder(path)


@pytest.fixture(scope="module")
def runs(file, tmp_path_factory) -> dict[str, RunFolder]:
    return {name: go(name, tmp_path_factory.mktemp(name), file) for name in TRAINERS}


def numbers(folder: RunFolder) -> list[dict[str, float]]:
    """metrics.csv without what no two runs share."""
    with open(folder.path / "metrics.csv") as table:
        rows = list(csv.DictReader(table))
    return [{key: float(value) for key, value in row.items() if value and not key.startswith("perf/")} for row in rows]


def tensors(folder: RunFolder, update: int = 4) -> dict[str, Tensor]:
    """All tensors of a checkpoint by dotted name: weights, averages, states of the optimizer."""

    def flat(node, name):
        if isinstance(node, Tensor):
            return {name: node}
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
        return {key: value for entry, inner in items for key, value in flat(inner, f"{name}.{entry}").items()}

    return flat(load_checkpoint(folder.checkpoints / f"updates_{update:08d}.ckpt"), "")


def rewound(folder: RunFolder, to: Path, update: int) -> Path:
    """A copy of a run as it was when it was stopped after `update`."""
    copy = shutil.copytree(folder.path, to / folder.path.parent.name / folder.path.name)
    for path in RunFolder(copy).checkpoint_files[update:]:
        path.unlink()
    RunFolder(copy).write_result("running", {}, {})
    return to


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_two_processes_do_what_one_does(name, runs):
    assert runs[name].path.name == runs["one"].path.name
    expected, ours = numbers(runs["one"]), numbers(runs[name])
    assert len(expected) == 6
    for theirs, own in zip(expected, ours, strict=True):
        assert own == pytest.approx(theirs, rel=1e-5)
    states = tensors(runs[name]), tensors(runs["one"])
    assert list(states[0]) == list(states[1])
    assert len(states[0]) > 80
    for key, value in states[1].items():
        torch.testing.assert_close(states[0][key], value, **CLOSE, msg=lambda text, key=key: f"{key}: {text}")
    assert len(list((runs[name].path / "images").iterdir())) == 2


OWN = [(name, name, update) for name in TRAINERS for update in (1, 2, 3)]
OTHER = [(first, then, 2) for first in TRAINERS for then in TRAINERS if first != then]


@pytest.mark.parametrize(("first", "then", "update"), OWN + OTHER)
def test_a_run_resumes_under_another_trainer_and_to_the_same_bits_under_its_own(first, then, update, runs, file, tmp_path):
    resumed = go(then, rewound(runs[first], tmp_path, update), file)
    assert resumed.state == "done"
    ours, theirs = tensors(resumed), tensors(runs[first])
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        if first == then:
            assert torch.equal(ours[name], value), name
        else:
            torch.testing.assert_close(ours[name], value, **CLOSE, msg=lambda text, name=name: f"{name}: {text}")
    for own, expected in zip(numbers(resumed), numbers(runs[first]), strict=True):
        assert own == expected if first == then else own == pytest.approx(expected, rel=1e-5)
