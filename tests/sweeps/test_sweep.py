"""The verb sweep: checked before anything starts, then rows in processes of their own; killed and started again."""

import csv
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest

from experiments import sweep
from experiments.config.compose import compose
from experiments.config.errors import ConfigError
from experiments.config.packages import CONF, ROOT
from experiments.config.settings import SweepSettings
from experiments.evaluation.results import Skipped, plain
from experiments.runs.folder import RunFolder
from experiments.runs.locks import LOCK
from experiments.sweeps import placement
from experiments.sweeps import prepare as preparing
from experiments.sweeps.entries import Entry, Stage
from experiments.sweeps.jobs import Job, compose_jobs
from experiments.sweeps.launchers import LAUNCHERS
from experiments.tables.reading import read_sweep
from experiments.tables.sweep_file import Row
from tokenizer.files import short_hash
from tokenizer.weights import FILES, MissingWeightsError, find_weights

TABLE = "gsq/table01_codebook"
LENGTH = ["updates=60", "checkpoint_every=4", "validate_every=60", "workers=0", "data.cuts_per_picture=1"]


def prepared(folder: Path, *words: str, table: str = TABLE, conf: Path = CONF) -> list[Entry]:
    file = read_sweep(table, conf)
    return preparing.prepare(file, "smoke", compose_jobs(file, "smoke", [0], [f"runs_folder={folder}", *words], (), conf), None)


def test_a_typo_in_the_fourth_row_is_one_message_before_torch_is_imported_and_nothing_is_written(tmp_path):
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    file = conf / "sweep" / f"{TABLE}.yaml"
    right = "{quantizer.initialization: sphere, quantizer.normalization: l1}"
    assert right in file.read_text()
    file.write_text(file.read_text().replace(right, "{quantizer.initialization: sphere, quantizer.normalizaton: l1}"))
    code = f"""
import sys
from pathlib import Path
from experiments import sweep
from experiments.config.compose import main
conf = Path({str(conf)!r})
try:
    main("sweep", sweep.run, "Run it.", conf)
except SystemExit as end:
    sys.stdout.write(f"{{end.code}} {{'torch' in sys.modules}}")
"""
    command = [sys.executable, "-c", code, TABLE, "scale=smoke"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.stdout == "1 False"
    assert done.stderr.startswith("error: conf/sweep/gsq/table01_codebook.yaml, row 4 (sphere_l1): ")
    assert "nearest: `quantizer.normalization`" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["conf"]


def test_parts_that_do_not_fit_are_the_rows_fault_and_nothing_is_written(tmp_path):
    place = "conf/sweep/gsq/table01_codebook.yaml, row 1 (uniform)"
    with pytest.raises(ConfigError, match="image_size=36") as caught:
        prepared(tmp_path / "runs", "image_size=36")
    assert caught.value.place == "for the training of every row"
    with pytest.raises(ConfigError, match="a multiple of 3") as caught:
        prepared(tmp_path / "runs", "trainer=cpu", "trainer.devices=3")
    assert caught.value.place.startswith(place)
    assert (caught.value.key, caught.value.value) == ("batch_size", 4)
    assert list(tmp_path.iterdir()) == []


def test_a_row_is_trained_by_its_words_and_then_evaluated_at_other_sizes(tmp_path, monkeypatch):
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    file = conf / "sweep" / f"{TABLE}.yaml"
    file.write_text(file.read_text() + "evaluations: {twice: {image_size_times: 2, batch_size: 3}}\n")
    entry = prepared(tmp_path / "runs", "data.largest_cut=1.5", conf=conf)[0]
    train, twice = entry.stages
    assert train.command == [sys.executable, "-m", "experiments.train", *entry.job.overrides]
    assert train.result == entry.folder.path / "result.json"
    name = f"evaluation-{short_hash({'image_size_times': 2, 'batch_size': 3})}"
    assert twice.result == entry.folder.path / "evaluations" / name / "result.json"
    words = twice.command[3:]
    assert "device=cpu" not in words
    assert "evaluated=held_out" not in words  # photographs have no such setting
    for word in (
        f"model={entry.folder.path}",
        "image_size=64",
        "data=photos",
        "data.largest_cut=1.5",
        "seed=0",
        "batch_size=3",
    ):
        assert word in words
    assert f"output={twice.result.parent}" in words
    assert entry.log == tmp_path / "runs" / "sweeps" / "gsq" / "table01_codebook" / "smoke" / "uniform.log"
    assert not (tmp_path / "runs").exists()
    on_cpu = prepared(tmp_path / "runs", "trainer=cpu", conf=conf)[0]
    assert "device=cpu" in on_cpu.stages[1].command


def test_what_a_training_left_out_for_want_of_weights_is_computed_once_they_are_there(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    entry = prepared(tmp_path / "runs")[0]
    with pytest.raises(MissingWeightsError) as caught:
        find_weights("alexnet")
    entry.folder.start(entry.config, [], {"data": entry.source.fingerprint(), "init_from": None})
    entry.folder.write_result(
        "done", {"val/psnr": 20.0}, {}, skipped=plain({"lpips": Skipped(str(caught.value), "alexnet"), "ssim": Skipped("too small")})
    )
    assert [stage.done for stage in prepared(tmp_path / "runs")[0].stages] == [True]
    FILES["alexnet"].path.touch()
    found = prepared(tmp_path / "runs")[0]
    assert (found.state, [stage.done for stage in found.stages]) == ("interrupted", [True, False])
    completed = found.stages[1]
    assert completed.result == entry.folder.path / "evaluations" / "completed" / "result.json"
    assert {f"model={entry.folder.path}", "image_size=32", "data=photos", "seed=0"} < set(completed.command)
    completed.folder.write_result("done", {"val/lpips": 0.5}, {}, skipped=plain({"ssim": Skipped("too small")}))
    assert prepared(tmp_path / "runs")[0].state == "done"


def test_the_same_run_from_two_experiments_has_one_folder(tmp_path):
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    shutil.copy(conf / "experiment/gsq/vae_f8_raw.yaml", conf / "experiment/gsq/another.yaml")
    file = conf / "sweep" / f"{TABLE}.yaml"
    overrides = "{quantizer.initialization: uniform, quantizer.normalization: none}"
    text = file.read_text().replace(
        "uniform, quantizer.normalization: l2}", "uniform, quantizer.normalization: none}\n    base: gsq/another"
    )
    assert text.count(overrides) == 2
    file.write_text(text)
    first, second, *_ = prepared(tmp_path / "runs", conf=conf)
    assert first.folder.path == second.folder.path == tmp_path / "runs/gsq/vae_f8_raw" / first.folder.path.name


def stand_in(folder: Path, name: str, program: str) -> Entry:
    stage = Stage([sys.executable, "-c", program], folder / name / "result.json")
    return Entry(Job(Row(name=name), 0, [], None), None, RunFolder(folder / name), [stage], folder / f"{name}.log", "not run")


@pytest.mark.parametrize(("broken", "status"), [(False, 0), (True, 1)])
def test_the_table_at_the_end_has_all_rows_and_a_failed_one_makes_the_exit_status(broken, status, tmp_path, monkeypatch, capsys, caplog):
    done = f"import os, json; os.mkdir({str(tmp_path / 'a')!r}); open({str(tmp_path / 'a' / 'result.json')!r}, 'w')"
    done += ".write(json.dumps({'state': 'done', 'metrics': {'perf/seconds': 3.2}}))"
    absent = Entry(Job(Row(name="c"), 0, [], None, "weights absent"), state="weights absent")
    entries = [stand_in(tmp_path, "a", done), absent]
    entries += [stand_in(tmp_path, "b", "raise SystemExit('too wide')")] * broken
    monkeypatch.setattr(preparing, "prepare", lambda *settings: entries)
    caplog.set_level("INFO", "experiments")
    assert sweep.run(compose("sweep", [TABLE, "scale=smoke", "seeds=2", "only=uniform"])) == status
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines() if "│" in line]
    text = [["a", "0", "done", "3", str(tmp_path / "a")], ["c", "0", "weights absent", "", ""]]
    assert [row[:3] for row in rows] == [row[:3] for row in text] + [["b", "0", "failed"]] * broken
    assert "python -m experiments.report gsq/table01_codebook scale=smoke seeds=2" in caplog.text
    assert ("b failed, exit 1: too wide" in caplog.text) == broken


def test_a_sweep_of_which_no_row_can_run_here_is_a_warning_and_no_success(monkeypatch, capsys, caplog):
    absent = Entry(Job(Row(name="c"), 0, [], None, "weights absent", "LPIPS needs a file"), state="weights absent")
    monkeypatch.setattr(preparing, "prepare", lambda *settings: [absent])
    caplog.set_level("INFO", "experiments")
    assert sweep.run(compose("sweep", [TABLE, "scale=smoke", "only=uniform"])) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no row could run here: LPIPS needs a file" in caplog.text


def test_a_row_sees_the_gpus_that_its_launcher_gives_it(monkeypatch):
    def seen(launcher: str, gpus: int, asked: int) -> int:
        monkeypatch.setattr(placement, "visible_gpus", lambda: [str(number) for number in range(gpus)])
        return placement.gpus_of_a_job(compose("sweep", [TABLE, f"launcher={launcher}", "jobs=2", f"slurm.gpus_per_node={asked}"]).settings)

    assert [seen("local", 8, 1), seen("slurm", 0, 2), seen("submitit_local", 8, 2), seen("submitit_local", 0, 1)] == [4, 2, 2, 0]


def test_the_launchers_of_the_command_line_are_those_that_there_are():
    assert get_args(SweepSettings.model_fields["launcher"].annotation) == LAUNCHERS


def test_a_row_of_the_queue_has_one_node(tmp_path, monkeypatch):
    words = [TABLE, "launcher=slurm", "scale=smoke", "only=uniform", "trainer.num_nodes=2", f"runs_folder={tmp_path}"]
    with pytest.raises(ConfigError) as caught:
        sweep.run(compose("sweep", words))
    assert (caught.value.key, caught.value.value) == ("trainer.num_nodes", 2)


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "experiments.sweep", TABLE, "scale=smoke", "only=[uniform,sphere]", *LENGTH, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run_folders(folder: Path) -> dict[str, RunFolder]:
    return {entry.job.name: entry.folder for entry in prepared(folder / "runs", *LENGTH) if entry.job.name in ("uniform", "sphere")}


def updates_done(folder: RunFolder) -> int:
    table = folder.path / "metrics.csv"
    return sum(1 for _ in csv.reader(table.open())) - 1 if table.is_file() else 0


def wait_for_updates(folder: RunFolder, number: int, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while updates_done(folder) < number:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
def test_a_sweep_that_was_stopped_and_killed_ends_as_one_that_was_not(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    whole = start(tmp_path / "whole", "jobs=2")
    assert "done" in whole.communicate(timeout=300)[0]
    assert whole.returncode == 0
    folders = run_folders(Path("."))
    relative = {name: folder.path.relative_to("runs") for name, folder in folders.items()}
    expected = {name: RunFolder(tmp_path / "whole" / "runs" / path).result for name, path in relative.items()}
    ours = {name: RunFolder(tmp_path / "broken" / "runs" / path) for name, path in relative.items()}

    stopped = start(tmp_path / "broken")
    wait_for_updates(ours["uniform"], 6, stopped)
    stopped.send_signal(signal.SIGTERM)
    text = stopped.communicate(timeout=120)[0]
    assert stopped.returncode == 128 + signal.SIGTERM
    assert "uniform: interrupted" in text
    assert (ours["uniform"].state, ours["sphere"].state) == ("running", "absent")
    saved_at = ours["uniform"].checkpoint_files[-1].name

    killed = start(tmp_path / "broken")
    wait_for_updates(ours["sphere"], 6, killed)
    os.kill(json.loads((ours["sphere"].path / LOCK).read_text())["pid"], signal.SIGKILL)
    text = killed.communicate(timeout=120)[0]
    assert killed.returncode == 1
    assert "sphere: failed, ended by SIGKILL" in text
    assert (ours["uniform"].state, ours["sphere"].state) == ("done", "failed")
    log = (tmp_path / "broken/runs/sweeps" / TABLE / "smoke/uniform.log").read_text()
    assert f"resuming from update {int(saved_at[8:16])}" in log

    untouched = (ours["uniform"].path / "environment.json").stat().st_mtime_ns
    again = start(tmp_path / "broken")
    text = again.communicate(timeout=120)[0]
    assert again.returncode == 0, text
    assert "done: uniform" in text
    assert "sphere: done" in text
    assert (ours["uniform"].path / "environment.json").stat().st_mtime_ns == untouched
    assert "resuming from update" in (tmp_path / "broken/runs/sweeps" / TABLE / "smoke/sphere.log").read_text()
    for name, folder in ours.items():
        plain = functools.partial(filter, lambda item: not item[0].startswith("perf/"))
        assert dict(plain(folder.result["metrics"].items())) == dict(plain(expected[name]["metrics"].items()))
        assert folder.result["metrics"]["val/psnr"] > 0
