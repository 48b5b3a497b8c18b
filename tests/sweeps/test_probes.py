"""Probes as stages of a sweep: checked on the meta device, stored where the probe itself stores, planned, killed and resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from experiments.config.compose import compose
from experiments.config.errors import ConfigError
from experiments.config.packages import CONF, ROOT
from experiments.evaluation.protocol import result_folder
from experiments.reports.report import make_report
from experiments.runs.locks import LOCK
from experiments.sweeps.entries import Entry
from experiments.sweeps.jobs import compose_jobs
from experiments.sweeps.plan import duration, estimate_of_probe, show_plan
from experiments.sweeps.prepare import prepare
from experiments.sweeps.sizes import TRIALS, operations_of_probe
from experiments.tables.reading import read_sweep
from tokenizer.interfaces import TokenSpec

TABLE = "digits/probe"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    shutil.copytree(CONF, tmp_path / "conf")
    return tmp_path / "conf"


def change(conf: Path, **changes: object) -> None:
    """Set keys of the table."""
    file = conf / "sweep" / f"{TABLE}.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes))


def prepared(runs: Path, *words: str, conf: Path = CONF, scale: str = "smoke", only: tuple[str, ...] = ("v16",)) -> list[Entry]:
    table = read_sweep(TABLE, conf)
    return prepare(table, scale, compose_jobs(table, scale, [0], [f"runs_folder={runs}", *words], only, conf), None)


@pytest.mark.parametrize("scale", ["mini", "smoke"])
def test_every_row_of_the_table_is_a_run_of_its_own_with_a_probe_and_nothing_is_written(scale, tmp_path):
    entries = prepared(tmp_path / "runs", scale=scale, only=())
    assert [[stage.title for stage in entry.stages] for entry in entries] == [["training", "probe"]] * 3
    assert len({stage.result for entry in entries for stage in entry.stages}) == 6
    assert not (tmp_path / "runs").exists()


def test_a_probe_is_a_command_whose_result_is_where_the_sweep_looks_for_it(tmp_path):
    (entry,) = prepared(tmp_path / "runs", "trainer=cpu", "workers=0")
    command = entry.stages[1].command
    assert command[:3] == [sys.executable, "-m", "experiments.probe"]
    assert {f"tokenizer={entry.folder.path}", "protocol=smoke", "seed=0", "device=cpu", "trainer=cpu", "image_size=32"} < set(command)
    assert f"runs_folder={tmp_path / 'runs'}" in command
    probe = compose("probe", command[3:])
    assert entry.stages[1].result == entry.folder.path / "evaluations" / result_folder(probe.config, "smoke") / "result.json"


def test_machine_and_folders_leave_a_result_where_it_is_and_a_setting_of_the_probe_does_not(tmp_path, conf):
    plain, elsewhere = prepared(tmp_path / "runs"), prepared(tmp_path / "others", "trainer=cpu", "workers=1")
    assert plain[0].stages[1].result.parent.name == elsewhere[0].stages[1].result.parent.name
    change(conf, probes={"probe": {"protocol": "smoke", "samples": 25}})
    assert prepared(tmp_path / "runs", conf=conf)[0].stages[1].result.parent.name != plain[0].stages[1].result.parent.name


@pytest.mark.parametrize(
    ("probe", "key"),
    [
        ({"protocol": "smoke", "training.settings.generator.dropout": 2}, "generator.dropout"),
        ({"protocol": "smoke", "training.groups.generator": "arr"}, "training.groups.generator"),
        ({"protocol": "smoke", "sample": 3}, "sample"),
        ({"protocol": "smoke", "linear.epochs": 0}, "linear.epochs"),
        ({"protocol": "smoke", "data": "digits", "image_size": 35}, "image_size=35"),
    ],
)
def test_a_probe_that_could_not_run_is_named_with_its_row_before_anything_runs(probe, key, tmp_path, conf):
    change(conf, probes={"xl": probe}, columns=["val/psnr"], claims=[], plot=None)
    with pytest.raises(ConfigError) as caught:
        prepared(tmp_path / "runs", conf=conf)
    assert caught.value.place.startswith("conf/sweep/digits/probe.yaml, row 1 (v16), probe xl")
    assert key in (caught.value.key, caught.value.place.rpartition(", ")[2]) or key in caught.value.reason
    assert not (tmp_path / "runs").exists()


def test_an_evaluation_with_a_wrong_setting_is_named_before_anything_runs(tmp_path, conf):
    change(conf, evaluations={"half": {"image_sze_times": 2}})
    with pytest.raises(ConfigError) as caught:
        prepared(tmp_path / "runs", conf=conf)
    assert (caught.value.place, caught.value.key) == ("conf/sweep/digits/probe.yaml, row 1 (v16), evaluation half", "image_sze_times")


def test_operations_of_a_probe_are_those_of_its_training_and_of_all_samples():
    training, search = {"updates": 5, "batch_size": 8}, {"samples": 10}
    tokens = TokenSpec(16, 4, 6, (2, 3), "raster", 10)
    trained = 6 * 1000 * 6 * 5 * 8
    final = operations_of_probe(1000, tokens, {"samples": 30, "guidance": search}, training)
    assert final == trained + 2 * 1000 * 6 * 2 * (TRIALS * 10 + 30)
    whole = operations_of_probe(1000, tokens, {"samples": 10, "guidance": search}, training)
    assert whole == trained + 2 * 1000 * 6 * 2 * TRIALS * 10
    unlabeled = TokenSpec(16, 4, 6, (2, 3), "raster", 0)
    assert operations_of_probe(1000, unlabeled, {"samples": 30, "guidance": search}, training) == trained + 2 * 1000 * 6 * 30


def test_the_plan_has_a_line_a_row_with_an_estimate_of_its_probe(tmp_path, capsys):
    entries = prepared(tmp_path / "runs", only=("v16", "v256_g4"))
    show_plan(entries, jobs=1, gpus=0)
    text = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert [(row[0], row[2], row[-1]) for row in rows] == [
        (entry.job.name, "not run", f"probe: ~{entry.stages[1].operations:.1e}") for entry in entries
    ]
    first, second = (entry.stages[1].operations for entry in entries)
    assert first < second  # its head has four groups to predict
    assert "left to run: 2 runs, 2 probes" in text
    entries[0].folder.start(entries[0].config, [], {"data": entries[0].source.fingerprint(), "init_from": None})
    entries[0].folder.write_result("done", {"perf/seconds": 100.0}, {})
    entries[0].stages[1].folder.write_result("done", {}, {}, seconds=300.0)
    assert estimate_of_probe(entries[1].stages[1], entries) == pytest.approx(300 * second / first)
    show_plan(prepared(tmp_path / "runs", only=("v16", "v256_g4")), jobs=1, gpus=0)
    text = capsys.readouterr().out
    assert "probe: 5.0 min" in text
    assert f"probe: ~{duration(300 * second / first)}" in text
    assert f"left to run: ~{duration(100 + 300 * second / first)}" in text


LAB = {
    "title": "Protocols",
    "source": "nowhere",
    "base": "digits/tokenizer",
    "columns": ["val/psnr", "probe/frechet_digits", "probe/acc1", "probe/tokenizer_acc1"],
    "smoke": {"data": "digits"},
    "probes": {"probe": {"protocol": "smoke", "guidance.samples": 200, "samples": 300}},
    "rows": [
        {"name": "a", "overrides": {"codebook_size": 16}},
        {"name": "b", "overrides": {"codebook_size": 16}, "probes": {"probe": {"protocol": "smoke", "samples": 30}}},
    ],
    "claims": [{"text": "So it is.", "when": "row('a')['probe/acc1'] == row('b')['probe/acc1']", "scales": ["smoke"]}],
}


def start(folder: Path) -> subprocess.Popen[str]:
    """Two rows of one tokenizer with two protocols, which have the same generator."""
    (folder / "mine/sweep/lab").mkdir(parents=True, exist_ok=True)
    (folder / "mine/sweep/lab/protocols.yaml").write_text(yaml.safe_dump(LAB))
    command = [sys.executable, "-m", "experiments.sweep", "--config-dir", "mine", "lab/protocols", "scale=smoke", "workers=0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TESSERA_WEIGHTS": str(folder)}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def stored(runs: Path) -> dict[Path, int]:
    """When each file of a finished training, of tokens and of finished parts of a probe was written."""
    patterns = ("digits/tokenizer/*/*.json", "ar/*/*.json", "probes/tokens/*.safetensors", "probes/results/*/*.json")
    return {path: path.stat().st_mtime_ns for pattern in patterns for path in runs.glob(pattern)}


def commands(runs: Path, verb: str) -> int:
    """How many processes of a verb were started."""
    lines = [line for log in runs.rglob("*.log") for line in log.read_text().splitlines()]
    return sum(line.startswith("$ ") and f"experiments.{verb} " in line for line in lines)


@pytest.mark.slow
def test_a_sweep_that_is_killed_in_a_probe_repeats_nothing_and_rows_of_one_tokenizer_share_it(tmp_path):
    runs = tmp_path / "runs"
    killed = start(tmp_path)
    until = time.monotonic() + 200
    while not list(runs.glob("probes/results/samples/*.json")):
        assert killed.poll() is None, killed.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.01)
    (lock,) = runs.glob(f"digits/tokenizer/*/evaluations/probe-*/{LOCK}")
    killed.kill()  # which its probe survives
    os.kill(json.loads(lock.read_text())["pid"], signal.SIGKILL)
    killed.communicate()
    before = stored(runs)
    assert {path.parent.name for path in before} > {"tokens", "samples", "linear_of_tokenizer", "linear_of_generator"}
    assert not list(runs.glob("digits/tokenizer/*/evaluations/*/result.json"))

    again = start(tmp_path)
    text = again.communicate(timeout=400)[0]
    assert again.returncode == 0, text
    assert text.splitlines()[0] == "interrupted (probe): a, b"
    assert {path: written for path, written in stored(runs).items() if path in before} == before
    assert (commands(runs, "train"), commands(runs, "probe")) == (2, 3)  # a tokenizer and a generator; the killed one, a and b
    assert [len(list(runs.glob(pattern))) for pattern in ("digits/tokenizer/*", "ar/*", "probes/tokens/*.safetensors")] == [1, 1, 1]
    assert len(list(runs.glob("digits/tokenizer/*/evaluations/probe-smoke-*/result.json"))) == 2
    _check_report(tmp_path)


def _check_report(folder: Path) -> None:
    sweep = read_sweep("lab/protocols", CONF, (folder / "mine",))
    overrides = [f"--config-dir={folder / 'mine'}", "workers=0", f"runs_folder={folder / 'runs'}"]
    made = make_report(sweep, "smoke", 1, overrides)
    first, second = (row.runs[0] for row in made.rows)
    assert (first.state, second.state, first.folder) == ("done", "done", second.folder)
    assert first.metrics["val/psnr"] == second.metrics["val/psnr"]
    assert first.metrics["probe/frechet_digits"] != second.metrics["probe/frechet_digits"]
    protocols = [run.cards["probe/acc1"]["protocol"] for run in (first, second)]
    assert protocols[0].startswith("smoke ")
    assert protocols[0] != protocols[1]
    assert made.tables[0].rows[0][1] == "holds"  # their cards differ in what the table is about
    assert f"Protocol: {protocols[0]} (a); {protocols[1]} (b)" in made.basis
