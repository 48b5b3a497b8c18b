"""A new loss of the inside of a tokenizer is one Python file and one YAML file; its parameters are trained and saved, not exported."""

import csv
import sys
from pathlib import Path

import pytest
import torch

from experiments.config import packages
from experiments.config.compose import compose
from experiments.config.errors import ConfigError
from experiments.runs.checkpoints import STATE, load_checkpoint
from experiments.runs.folder import RunFolder
from experiments.runs.models import load_tokenizer
from experiments.training.loop import make_task, train
from experiments.training.tokenizer_task import TokenizerTask

LOSS = '''
import torch.nn.functional as F
from torch import nn

from tokenizer.interfaces import InnerLoss


class ColorLoss(InnerLoss):
    """The mean color of an image from the output of a stage of the decoder, through a trained layer; due in every update but the first."""

    def __init__(self, width: int, tap: int):
        super().__init__()
        self.taps = (tap,)
        self.projector = nn.Linear(width, 3)

    def forward(self, tokenizer, current):
        if current.update == 1:
            return None
        features = current.output.decoder.features[f"block{self.taps[0]}"]
        return F.mse_loss(self.projector(features.mean((2, 3))), current.images.mean((2, 3)))
'''
FILE = """\
defaults:
  - pixel
  - _self_
weights:
  color: 0.5
inner:
  color:
    _target_: a_lab.color.ColorLoss
    width: 32
    tap: 1                   # stage of the decoder
"""
WORDS = [
    "scale=smoke", "loss=color", "plugins=[a_lab]", "data.cuts_per_picture=1", "codebook_size=64", "groups=8", "updates=3",
    "validate_every=3",
]  # fmt: skip


@pytest.fixture
def lab(tmp_path, monkeypatch) -> Path:
    """A package of its own with the loss, and a folder of configuration files."""
    (tmp_path / "a_lab").mkdir()
    (tmp_path / "a_lab" / "__init__.py").touch()
    (tmp_path / "a_lab" / "color.py").write_text(LOSS)
    (tmp_path / "files" / "loss").mkdir(parents=True)
    (tmp_path / "files" / "loss" / "color.yaml").write_text(FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(packages, "_plugins", {})
    for name in [name for name in sys.modules if name.partition(".")[0] == "a_lab"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def run(lab: Path, name: str, *words: str) -> RunFolder:
    overrides = [f"--config-dir={lab / 'files'}", *WORDS, f"runs_folder={lab / name}", *words]
    assert train(compose("train", overrides).config, overrides, "test") == 0
    (path,) = (lab / name / "test").iterdir()
    return RunFolder(path)


def state_of(folder: RunFolder) -> dict:
    return load_checkpoint(folder.checkpoint_files[-1])


def test_its_projector_trains_resumes_to_the_same_bits_and_is_not_exported(lab, monkeypatch):
    whole = run(lab, "whole")
    with (whole.path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss/total"]]
    colors = [row["train/loss/color"] for row in rows]
    assert (colors[0], len(colors)) == ("", 3)
    assert float(colors[1]) > 0
    assert float(rows[2]["train/weighted/color"]) == pytest.approx(0.5 * float(colors[2]))

    state = state_of(whole)
    projector = {name: value for name, value in state["state_dict"].items() if "projector" in name}
    assert sorted(projector) == ["objective.inner.color.projector.bias", "objective.inner.color.projector.weight"]
    sizes = [tuple(moments["exp_avg"].shape) for moments in state["optimizer_states"][0]["state"].values()]
    assert sizes[-2:] == [(3, 32), (3,)]  # the tokenizer's optimizer, after the tokenizer
    assert all(moments["exp_avg"].abs().max() > 0 for moments in list(state["optimizer_states"][0]["state"].values())[-2:])
    assert not any("projector" in name for name in state[STATE]["average"])
    assert not any("projector" in name for name in load_tokenizer(whole.path)[0].state_dict())

    step = TokenizerTask.training_step
    with monkeypatch.context() as patch:
        patch.setattr(TokenizerTask, "training_step", lambda task, *batch: stop() if task.batches == 2 else step(task, *batch))
        with pytest.raises(Killed):
            run(lab, "stopped")
    resumed = state_of(run(lab, "stopped"))
    for name, value in state["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value), name


class Killed(BaseException):
    """Stands for a process that is killed."""


def stop() -> None:
    raise Killed


def test_a_tap_is_the_output_of_its_stage(lab):
    overrides = [f"--config-dir={lab / 'files'}", *WORDS]
    task = make_task(compose("train", overrides).config)
    task.allocate(torch.device("cpu"))
    seen = []
    task.tokenizer.decoder.stages[1].register_forward_hook(lambda _, inputs, output: seen.append(output))
    output = task.tokenizer(torch.rand(2, 3, 32, 32), taps=(2,))
    assert output.decoder.features["block2"] is seen[0]
    assert list(output.decoder.features) == ["block2"]


@pytest.mark.parametrize("tap", [0, 99])
def test_a_stage_that_does_not_exist_is_refused_before_anything_is_written(lab, tap):
    with pytest.raises(ConfigError, match=f"taps={tap}, expected a block of the decoder, 1 to ") as caught:
        run(lab, "refused", f"loss.inner.color.tap={tap}")
    assert caught.value.key == "loss.weights.color"
    assert not (lab / "refused").exists()
