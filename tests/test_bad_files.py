"""A folder with unreadable image files: training uses the next image instead; evaluation skips the files and reports them."""

import csv
import json
import logging
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import evaluate
from experiments.config.compose import compose, main
from experiments.evaluation.reconstruction import Preview
from experiments.runs.folder import RunFolder
from experiments.training.loop import train

BAD = ("notes.jpg", "torn.jpg")


def draw(path: Path, seed: int) -> None:
    """Save coarse color noise, enlarged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((48, 40), Image.Resampling.BILINEAR).save(path)


@pytest.fixture(scope="module")
def image_root(tmp_path_factory) -> Path:
    """Eight training and five validation images, and in both splits a text file and a truncated JPEG with an image suffix."""
    root = tmp_path_factory.mktemp("images")
    for part, count in (("train", 8), ("val", 5)):
        for number in range(count):
            suffix = ".png" if number % 2 else ".jpg"
            draw(root / part / f"{'ahmpqxyz'[number]}{suffix}", seed=number)
        (root / part / "notes.jpg").write_text("shopping: milk, bread\n")
        draw(root / part / "torn.jpg", seed=100)
        whole = (root / part / "torn.jpg").read_bytes()
        (root / part / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.fixture(scope="module")
def repaired(image_root, tmp_path_factory) -> Path:
    """The same images without bad files: bad training files are replaced by the next good ones, bad validation files are removed."""
    root = tmp_path_factory.mktemp("repaired") / "images"
    shutil.copytree(image_root, root)
    for bad, following in (("notes.jpg", "p.png"), ("torn.jpg", "x.png")):
        shutil.copy(image_root / "train" / following, root / "train" / bad)
        (root / "val" / bad).unlink()
    return root


def run(root: Path, folder: Path, *words: str) -> RunFolder:
    words = ("scale=smoke", "updates=4", "validate_every=4", "data=image_folder", f"data.root={root}", f"runs_folder={folder}", *words)
    assert train(compose("train", [*words]).config, [*words], "test") == 0
    (path,) = (folder / "test").iterdir()
    return RunFolder(path)


def rows(folder: RunFolder) -> list[dict[str, str]]:
    with open(folder.path / "metrics.csv", newline="") as file:
        return [{key: value for key, value in row.items() if not key.startswith("perf/")} for row in csv.DictReader(file)]


@pytest.mark.parametrize("workers", [0, 2])
def test_training_uses_the_next_image_and_evaluation_skips_the_file(workers, image_root, repaired, tmp_path, caplog):
    """Four batches of four contain all ten training files."""
    with caplog.at_level(logging.WARNING, "experiments"):
        ours = run(image_root, tmp_path / "ours", f"workers={workers}")
    theirs = run(repaired, tmp_path / "theirs", "workers=0")
    *training_rows, validated = rows(theirs)
    assert [row["updates"] for row in training_rows] == ["1", "2", "3", "4"]
    assert rows(ours)[:-1] == training_rows
    assert all(row["train/loss/reconstruction"] for row in training_rows)
    for key, value in validated.items():
        assert float(rows(ours)[-1][key] or 0) == pytest.approx(float(value or 0), rel=1e-5), key  # different batches round differently
    assert ours.result["unreadable"] == [f"val/{name}" for name in BAD]
    assert ours.result["unreadable_in_training"] == [f"train/{name}" for name in BAD]
    assert theirs.result["unreadable"] == theirs.result["unreadable_in_training"] == []
    counts = {key: card["n"] for key, card in ours.result["cards"].items()}
    assert counts == {key: card["n"] for key, card in theirs.result["cards"].items()}
    assert counts["val/psnr"] == 5
    if workers == 0:  # worker processes log to the terminal, not to caplog
        for name in (f"{part}/{bad}" for part in ("train", "val") for bad in BAD):
            messages = [record for record in caplog.messages if f"{image_root / name}: cannot be read" in record]
            assert len(messages) == 1, name


def test_evaluate_names_what_it_left_out(image_root, tmp_path, capsys):
    folder = run(image_root, tmp_path / "runs", "updates=1")
    capsys.readouterr()
    words = [f"model={folder.path}", "data=image_folder", f"data.root={image_root}", f"output={tmp_path / 'out'}", "workers=0"]
    assert evaluate.run(compose("evaluate", words)) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["unreadable"] == [f"val/{name}" for name in BAD]
    assert result["cards"]["val/psnr"]["n"] == 5
    shown = capsys.readouterr().out
    for name in BAD:
        assert f"left out, could not be read: val/{name}" in shown


@pytest.mark.parametrize("root", ["val/torn.jpg", "empty"])
def test_nothing_but_bad_files_is_one_message(root, image_root, tmp_path, monkeypatch, capsys):
    (image_root / "empty").mkdir(exist_ok=True)
    shutil.copy(image_root / "val" / "notes.jpg", image_root / "empty")
    draw(tmp_path / "good" / "a.png", seed=0)
    folder = run(tmp_path / "good", tmp_path / "runs", "updates=1")
    words = [f"model={folder.path}", "data=image_folder", f"data.root={image_root / root}", f"output={tmp_path / 'out'}", "workers=0"]
    monkeypatch.setattr(sys, "argv", ["evaluate", *words])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main("evaluate", evaluate.run, "")
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert "data" in last
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("size", "expected"), [(0, []), (2, [0, 1]), (5, [0, 2, 4]), (100, [0, 64, 96]), (1000, [0, 512, 768])])
def test_preview_images_are_spread_over_a_set_of_any_size(size, expected):
    """Three images of a preview that stores at most six. Of 1000 images, a stride of 256 stores 0, 256, 512 and 768."""
    preview = Preview(3)
    numbers = torch.arange(size).float().reshape(-1, 1, 1, 1)
    for batch in numbers.split(7):
        preview.add(batch, -batch)
        assert len(preview.stored) <= 6
    images, reconstructions = preview.images()
    assert images.flatten().tolist() == expected
    assert torch.equal(reconstructions, -images)
