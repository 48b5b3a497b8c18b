"""The plan of a sweep: sizes against counts by hand, states, times, and that nothing is written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments.config.compose import compose
from experiments.config.errors import ConfigError
from experiments.config.packages import CONF, ROOT
from experiments.runs.build import build
from experiments.sweeps.entries import Entry
from experiments.sweeps.jobs import Job, compose_jobs
from experiments.sweeps.plan import duration, estimate, show_plan
from experiments.sweeps.prepare import prepare
from experiments.sweeps.sizes import Size, _count, size_of
from experiments.tables.reading import read_sweep
from experiments.tables.sweep_file import Row

BASE = ["scale=smoke", "discriminator=none", "quantizer=vq", "codebook_size=64"]


def size(*overrides: str, devices: int = 1) -> Size:
    config = compose("train", [*BASE, *overrides]).config
    return size_of(config, config["image_size"], devices)


def entries(folder: Path, *extra: str) -> list[Entry]:
    sweep = read_sweep("gsq/table01_codebook", CONF)
    overrides = [f"runs_folder={folder}", "workers=0", *extra]
    return prepare(sweep, "smoke", compose_jobs(sweep, "smoke", [0], overrides, ["uniform", "sphere"]), None)


def finish(entry: Entry, seconds: float) -> None:
    entry.folder.start(entry.config, [], {"data": entry.source.fingerprint(), "init_from": None})
    entry.folder.write_result("done", {"perf/seconds": seconds}, {})
    entry.look()


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]


def test_parameters_are_those_of_the_parts():
    config = compose("train", [*BASE, "discriminator=patchgan"]).config
    expected = [sum(p.numel() for p in build(config["task"][part]).parameters()) for part in ("tokenizer", "discriminator")]
    counted = size("discriminator=patchgan")
    assert [counted.parameters, counted.discriminator_parameters] == expected
    assert size().discriminator_parameters == 0


def test_operations_of_the_discriminator_count_from_its_start_on():
    alone, late, half, all_along = (
        size(f"discriminator={name}", "updates=8", f"discriminator_start={start}").operations
        for name, start in (("none", 0), ("patchgan", 8), ("patchgan", 4), ("patchgan", 0))
    )
    assert late == alone < half
    assert all_along - alone == pytest.approx(2 * (half - alone))


def test_layers_count_as_by_hand():
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Linear(16, 4)).to("meta")
    operations, stored = _count(layers, lambda: layers(torch.empty(2, 3, 16, 16, device="meta")))
    assert operations == 2 * 9 * 3 * 8 * 16 * 16 + 2 * 16 * 4 * 8 * 16
    assert stored == 4 * (2 * 8 * 16 * 16 + 8 * 16 * 4)


def test_longer_runs_and_larger_batches_take_more_and_parts_less_memory():
    base = size()
    assert size("updates=4").operations == 2 * base.operations
    assert size("batch_size=8").operations == 2 * base.operations
    assert size("batch_size=8").memory > base.memory > size("accumulate=4").memory
    fixed = 20 * base.parameters
    assert size("batch_size=8", devices=2).memory - fixed == pytest.approx(base.memory - fixed)
    assert size("discriminator=patchgan").operations > base.operations


def test_a_finished_run_gives_its_own_seconds_and_an_estimate_for_others_and_nothing_is_written(tmp_path, capsys):
    first, second = entries(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    finish(first, 615.0)
    before = sorted(tmp_path.rglob("*"))
    show_plan(entries(tmp_path / "runs"), jobs=1, gpus=0)
    assert sorted(tmp_path.rglob("*")) == before
    text = capsys.readouterr().out
    parameters = f"{size_of(first.config, first.source.image_size, 1).parameters / 1e6:.3f}"
    assert [row[:4] for row in cells(text)] == [["uniform", "0", "done", parameters], ["sphere", "0", "not run", parameters]]
    assert [row[6:] for row in cells(text)] == [["2 x 4", "10 min"], ["2 x 4", "~10 min"]]
    assert "left to run: ~10 min" in text
    assert estimate(second, [first, second]) == 615.0


def test_an_estimate_follows_the_number_of_images_and_needs_the_same_width(tmp_path):
    (done, _), (longer, _) = entries(tmp_path), entries(tmp_path, "updates=10", "batch_size=8")
    assert estimate(longer, [done, longer]) is None
    finish(done, 30.0)
    assert estimate(longer, [done, longer]) == pytest.approx(30.0 * 10)
    assert estimate(entries(tmp_path, "width=64")[0], [done]) is None


def test_without_a_finished_run_operations_are_printed(tmp_path, capsys):
    found = entries(tmp_path)
    show_plan([*found, found[1]], jobs=2, gpus=0)
    text = capsys.readouterr().out
    assert all(row[7].endswith("operations") for row in cells(text))
    assert "left to run: 2 runs" in text
    assert "1 of them are the same run as another row, and run once" in text


def test_jobs_at_the_same_time_share_the_rest(tmp_path, capsys):
    found = entries(tmp_path)
    finish(found[0], 90.0)
    others = entries(tmp_path, "codebook_size=32")
    show_plan([found[0], *others], jobs=2, gpus=0)
    assert "left to run: ~3.0 min, ~90 s with jobs=2" in capsys.readouterr().out


def test_durations_are_in_the_largest_suitable_unit():
    assert [duration(seconds) for seconds in (3, 119, 121, 3000, 7300, 4e5)] == ["3.0 s", "119 s", "2.0 min", "50 min", "2.0 h", "4.6 days"]


def test_rows_without_weights_have_no_estimate(capsys):
    absent = Entry(Job(Row(name="a"), 0, [], None, "weights absent"), state="weights absent")
    show_plan([absent], jobs=2, gpus=0)
    text = capsys.readouterr().out
    assert cells(text) == [["a", "0", "weights absent", "", "", "", "", ""]]
    assert "no row can be run here" in text


def test_the_training_of_a_generator_is_not_counted_but_named():
    with pytest.raises(ConfigError, match="only trainings of tokenizers are counted"):
        size_of({"task": {"generator": {}}}, 32, 1)


def test_a_plan_does_not_import_lightning(tmp_path):
    code = """
import runpy, sys
sys.argv = ["experiments.sweep", "gsq/table01_codebook", "plan", "scale=smoke", "only=uniform", f"runs_folder={sys.argv[1]}/runs"]
try:
    runpy.run_module("experiments.sweep", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
sys.stderr.write(" ".join(sorted({"lightning", "torchmetrics", "torchvision", "timm", "lpips"} & set(sys.modules))))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "uniform" in done.stdout
    assert list(tmp_path.iterdir()) == []
