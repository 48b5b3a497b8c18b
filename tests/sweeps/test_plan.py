"""What the plan tells: counts against counts by hand, states, and that nothing is written."""

from pathlib import Path

import pytest
import torch

from experiments.config.compose import compose
from experiments.config.signatures import CONF
from experiments.runs.build import build
from experiments.sweeps import cost, plan
from experiments.sweeps.cost import Cost, cost_of
from experiments.sweeps.entries import Entry, Stage
from experiments.sweeps.jobs import Job, compose_jobs
from experiments.sweeps.plan import duration, show_plan
from experiments.sweeps.prepare import prepare
from experiments.tables.reading import read_sweep
from experiments.tables.sweep_file import Row

WORDS = ["scale=smoke", "discriminator=none", "quantizer=vq", "codebook_size=64"]


def counted(*words: str, devices: int = 1) -> Cost:
    config = compose("train", [*WORDS, *words]).config
    return cost_of(config, build(config["data"]), devices)


def entries(folder: Path, *extra: str) -> list[Entry]:
    sweep = read_sweep("gsq/table01_codebook", CONF)
    words = [f"runs_folder={folder}", "workers=0", *extra]
    return prepare(sweep, "smoke", compose_jobs(sweep, "smoke", [0], words, ["uniform", "sphere"]), None)


def finish(entry: Entry, seconds: float) -> None:
    entry.folder.start(entry.config, [], {"data": entry.source.fingerprint(), "init_from": None})
    entry.folder.write_result("done", {"perf/seconds": seconds}, {})


@pytest.fixture(autouse=True)
def known_speed(monkeypatch):
    monkeypatch.setattr(plan, "rate", lambda *setting: 1e9)
    monkeypatch.setattr(cost, "_has_inception", lambda: False)


def test_parameters_are_those_of_the_parts():
    config = compose("train", [*WORDS, "discriminator=patchgan"]).config
    expected = [sum(p.numel() for p in build(config["task"][part]).parameters()) for part in ("tokenizer", "discriminator")]
    found = counted("discriminator=patchgan")
    assert [found.parameters, found.discriminator_parameters] == expected
    assert counted().discriminator_parameters == 0


def test_a_convolution_counts_as_by_hand():
    layer = torch.nn.Conv2d(3, 8, 3, padding=1, device="meta")
    images = torch.empty(2, 3, 16, 16, device="meta")
    found = cost._count(lambda: torch.autograd.backward(layer(images).sum()), layer)
    forward = 2 * 9 * 3 * 8 * 16 * 16
    assert found.flops == 2 * forward  # and the weight's gradient; nobody wants the images'
    assert found.saved == 3 * 16 * 16 * 4


def test_a_look_up_compares_every_token_with_every_code():
    """A run of another codebook differs by its look-ups alone, in two updates of four pictures and in two validations, EMA and raw."""
    judged = 2 * len(build(compose("train", WORDS).config["data"]).val)
    config = compose("train", WORDS).config
    with torch.device("meta"):
        tokenizer = build(config["task"]["tokenizer"])
    latent_dim, (height, width) = tokenizer.quantizer.latent_dim, tokenizer.grid(config["image_size"])
    tokens = height * width
    difference = counted("codebook_size=128").flops - counted().flops
    assert difference == pytest.approx(2.0 * tokens * 64 * latent_dim * (2 * 4 + 2 * judged))


def test_longer_runs_and_larger_batches_take_more_and_parts_less_memory():
    base = counted()
    shorter, longer = (counted(f"updates={number}", "validate_every=100") for number in (2, 4))
    assert 0 < 2 * shorter.flops - longer.flops < shorter.flops  # one validation in both
    assert counted("batch_size=8").memory > base.memory > counted("accumulate=4").memory
    fixed = 20 * base.parameters
    assert counted("batch_size=8", devices=2).memory - fixed == pytest.approx(base.memory - fixed)
    assert counted("discriminator=patchgan").flops > base.flops
    assert counted("discriminator=patchgan", "discriminator_start=1").flops < counted("discriminator=patchgan").flops


def test_seconds_follow_from_operations_and_speed():
    found = Cost(parameters=1, discriminator_parameters=0, flops=3e12, calls=1e6, memory=0)
    assert found.seconds(1e10, 2, "cpu") == pytest.approx(3e12 / 2 / (1e10 * 0.5) + 1e6 * 15e-6 + 10)


def test_a_finished_run_tells_its_own_seconds_and_nothing_is_written(tmp_path, capsys):
    first = entries(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    finish(first[0], 615.0)
    before = sorted(tmp_path.rglob("*"))
    found = entries(tmp_path / "runs")
    show_plan(found, jobs=1, gpus=0)
    assert sorted(tmp_path.rglob("*")) == before
    lines = [[cell.strip() for cell in line.split("│")] for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [line[1:4] for line in lines] == [["uniform", "0", "done"], ["sphere", "0", "not run"]]
    assert lines[0][7] == "10 min"
    assert lines[1][7].startswith("~")
    assert lines[0][4] == lines[1][4] == f"{cost_of(found[0].config, found[0].source, 1).parameters / 1e6:.3f}"


def test_what_is_left_is_the_sum_of_what_is_not_done_and_shared_by_jobs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plan, "estimate", lambda *setting: 90.0)
    found = entries(tmp_path / "runs")
    show_plan(found, jobs=2, gpus=0)
    assert "left to run: ~3.0 min, ~90 s with jobs=2" in capsys.readouterr().out
    finish(found[0], 1.0)
    found[0].look()
    show_plan([*found, found[1]], jobs=1, gpus=0)
    told = capsys.readouterr().out
    assert "left to run: ~90 s\n" in told
    assert "1 of them are the same run as another row, and run once" in told


def test_a_run_that_lacks_an_evaluation_alone_takes_as_long_as_that(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "cost_of", lambda config, *others: Cost(0, 0, 1e9 * config["updates"], 0, 0))
    first, second = entries(tmp_path, "updates=1000")
    finish(first, 600.0)
    first.stages.append(Stage([], tmp_path / "evaluations" / "result.json"))
    first.look()
    costs = {}
    assert [plan._cells(entry, costs, 1, 0)[1] for entry in (first, second)] == [12.0, 2010.0]


def test_durations_are_in_the_unit_that_one_would_say():
    assert [duration(seconds) for seconds in (3, 119, 121, 3000, 7300, 4e5)] == ["3.0 s", "119 s", "2.0 min", "50 min", "2.0 h", "4.6 days"]


def test_the_speed_of_this_machine_is_measured():
    found = cost.rate(8, 16, 2, "cpu", False, 1)
    assert 1e7 < found < 1e13


def test_rows_without_weights_have_no_estimate(capsys):
    absent = Entry(Job(Row(name="a"), 0, [], None, "weights absent"), state="weights absent")
    show_plan([absent], jobs=2, gpus=0)
    told = capsys.readouterr().out
    assert [cell.strip() for cell in told.splitlines()[3].split("│")[1:-1]] == ["a", "0", "weights absent", "", "", "", ""]
    assert "no row can be run here" in told


def test_the_training_of_a_generator_is_not_counted_but_named():
    with pytest.raises(ValueError, match="trainings of tokenizers, this one is of a generator"):
        cost_of({"task": {"generator": {}}}, None, 1)
