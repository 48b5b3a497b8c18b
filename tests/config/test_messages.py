"""A wrong command is one message with the value and the way out, and nothing is written."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from experiments import evaluate, export, train
from experiments.config.compose import CONF, compose, main
from experiments.config.errors import ConfigError
from experiments.config.packages import ROOT

LIGHT = {
    "train quantizer=fsq groups=16": ["groups=16", "quantizer=fsq does not declare it", "quantizer=gsq does"],
    "train updatse=5": ["updatse=5", "nearest: `updates`"],
    "train quantizer.normalizatoin=l2": ["quantizer.normalizatoin=l2", "nearest: `quantizer.normalization`"],
    "train quantizer=gqs": ["quantizer=gqs", "nearest: `gsq`", "one of bsq, fsq, gsq"],
    "train +experiment=gsq/vae_f8": ["+experiment=gsq/vae_f8", "write it without +"],
    "train groups=abc": ["groups=abc", "whole number", "change `groups`"],
    "train groups=7": ["groups=7", "does not divide latent_dim=64", "4 or 8", "change `groups` or `latent_dim`"],
    "train batch_size=0": ["batch_size=0", "at least 1", "change `batch_size`"],
    "train accumulate=3": ["accumulate=3", "does not divide batch_size=16", "change `accumulate` or `batch_size`"],
    "train log_every=0": ["log_every=0", "at least 1", "change `log_every`"],
    "train seed=-1": ["seed=-1", "at least 0", "change `seed`"],
    "train learning_rate=nan": ["learning_rate=nan", "a finite number", "change `learning_rate`"],
    "train discriminator_start=1.5": ["discriminator_start=1.5", "from 0.0 to 1.0", "change `discriminator_start`"],
    "train discriminator_learning_rate=-1": ["discriminator_learning_rate=-1", "at least 0", "change `discriminator_learning_rate`"],
    "train data=image_folder": ["data.root: is required by data=image_folder", "add `data.root=...`", "a folder or a file"],
    "train data=image_folder data.root=/nonexistent": ["data.root=/nonexistent", "does not exist"],
    "train loss=lpips": ["needs vgg16", "python -m experiments.weights fetch vgg16", "loss.weights.perceptual=0 does without it"],
    "train device=cpu": ["device=cpu", "experiments.evaluate, ", "have one", "--help lists the keys"],
    "train --gpus 2": ["--gpus: unknown option", "key=value"],
    "train plugins=[no_such_package]": ["plugins=no_such_package", "importable"],
    "evaluate": ["model: is required", "add `model=...`"],
    "evaluate model=/nonexistent": ["model=/nonexistent", "change `model`"],
    "evaluate model=/ updates=5": ["updates=5", "experiments.train has one"],
    "export run=/nonexistent": ["run=/nonexistent", "expected a run folder", "change `run`"],
    "export run=/ weights=average": ["weights=average", "one of ema, raw"],
    "weights fetch vgg": ["name=vgg", "one of vgg16", "change `name`"],
    "train image_size=30": ["image_size=30", "no multiple of 8", "nearest: `24 or 32`"],
    "train backbone.encoder.multipliers=[]": ["backbone.encoder.multipliers=[]", "a list with a number for each"],
}
HEAVY = {
    "train codebook_size=-4": ["codebook_size=-4", "at least 2"],
    "train quantizer.ties=randm": ["quantizer.ties=randm", "one of lowest, random", "nearest: `random`", "change `quantizer.ties`"],
    "train depth=deep": ["depth=deep", "a whole number (int)", "change `depth`"],
    "train schedule.warmup=later": ["schedule.warmup=later", "number", "change `schedule.warmup`"],
}
PARTS = LIGHT | HEAVY
SECONDS = {True: 10, False: 60}  # with room for a busy machine: alone they take 0.4 and 5


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Every command line in a folder of its own, two at a time."""
    weights = tmp_path_factory.mktemp("no_weights")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TESSERA_WEIGHTS": str(weights)}

    def answer(line: str) -> tuple[subprocess.CompletedProcess[str], float, list[Path]]:
        folder = tmp_path_factory.mktemp("command")
        verb, *words = line.split()
        began = time.monotonic()
        command = [sys.executable, "-m", f"experiments.{verb}", *words]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
        return done, time.monotonic() - began, [*folder.rglob("*"), *weights.rglob("*")]

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(PARTS, pool.map(answer, PARTS), strict=True))


@pytest.mark.parametrize("line", PARTS)
def test_a_wrong_command_is_one_message_and_leaves_nothing(line, answers):
    done, seconds, written = answers[line]
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    for part in PARTS[line]:
        assert part in done.stderr
    assert len(done.stderr) < 400
    assert written == []
    assert seconds < SECONDS[line in LIGHT]


VERBS = {"train": train, "evaluate": evaluate, "export": export}


def message_of(line: str, monkeypatch, capsys) -> str:
    """Standard error of a command line, run in this process; its message is the last line."""
    verb, *words = line.split()
    monkeypatch.setattr(sys, "argv", [verb, *words])
    with pytest.raises(SystemExit) as caught:
        main(verb, VERBS[verb].run, "")
    captured = capsys.readouterr()
    assert (caught.value.code, captured.out) == (1, "")
    assert captured.err.splitlines()[-1].startswith("error: ")
    return captured.err


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("train ema_decay=1.5", ["ema_decay=1.5", "change `ema_decay`"]),
        ("train schedule.warmup=2.5", ["schedule.warmup=2.5", "from 0.0 to 1.0", "change `schedule.warmup`"]),
        ("train image_size=512", ["image_size=512", "1 .. 300"]),
        ("train resume=/nonexistent", ["resume=/nonexistent", "expected a run folder", "change `resume`"]),
        ("train init_from=/nonexistent", ["init_from=/nonexistent", "expected a file or folder that exists", "change `init_from`"]),
        ("train loss.weights.perceptual=1", ["loss.weights.perceptual=1", "set the weight to 0", "loss=lpips"]),
        ("train trainer=cpu trainer.devices=2 batch_size=3", ["batch_size=3", "multiple of 2", "2 devices", "change `batch_size`"]),
        (
            "train trainer=cpu trainer.devices=2 accumulate=4 batch_size=12",
            ["batch_size=12", "multiple of 8 (2 devices, accumulate=4)", "change `batch_size`"],
        ),
    ],
)
def test_what_only_a_constructor_knows_is_one_message_before_anything_is_written(line, parts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = message_of(line, monkeypatch, capsys)
    assert text.count("\n") == 1
    for part in parts:
        assert part in text
    assert list(tmp_path.iterdir()) == []


def test_a_missing_gpu_is_one_message(tmp_path, monkeypatch, capsys):
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "trainer=auto or trainer=cpu" in message_of("train trainer=gpu", monkeypatch, capsys)
    (tmp_path / "config.json").write_text('{"trained_with": {"image_size": 32}, "model": {}}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    text = message_of(f"evaluate model={tmp_path} device=cuda", monkeypatch, capsys)
    assert "device=cuda: torch finds no GPU" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("group", ["experiment", "scale"])
def test_a_misspelt_key_in_a_file_names_the_file(group, tmp_path):
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    (conf / group / "mine.yaml").write_text("# @package _global_\nupdatse: 5\n")
    with pytest.raises(ConfigError) as caught:
        compose("train", [f"{group}=mine"], conf)
    error = caught.value
    assert (error.place, error.key, error.value, error.nearest) == (f"conf/{group}/mine.yaml", "updatse", 5, "updates")


def test_an_error_of_a_reading_process_is_one_message(tmp_path, monkeypatch, capsys):
    """The loader hands it on inside a text that holds a traceback."""
    images = tmp_path / "images"
    images.mkdir()
    for number in range(24):
        (images / f"{number:02d}.jpg").write_text("no image")
    words = f"data=image_folder data.root={images} scale=smoke workers=1 runs_folder={tmp_path / 'runs'}"
    text = message_of(f"train {words}", monkeypatch, capsys).splitlines()[-1]
    assert "11 of 23 files cannot be read" in text
    assert "expected at most data.max_unreadable=0.1 of them" in text


def test_a_bug_keeps_its_traceback(tmp_path, monkeypatch):
    def broken(self):
        return {}["absent"]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train"])
    monkeypatch.setattr("experiments.data.photos.Photos.fingerprint", broken)
    with pytest.raises(KeyError, match="absent"):
        main("train", train.run, "")


@pytest.mark.parametrize("verb", ["train", "evaluate", "export"])
def test_help_loads_no_torch(verb, tmp_path):
    code = (
        "import runpy, sys, contextlib; sys.argv = ['verb', '--help']\n"
        f"with contextlib.suppress(SystemExit): runpy.run_module('experiments.{verb}', run_name='__main__')\n"
        "sys.stderr.write(str(sorted({'torch', 'lightning', 'wandb', 'torchvision'} & set(sys.modules))))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "[]")
    assert "=" in done.stdout
