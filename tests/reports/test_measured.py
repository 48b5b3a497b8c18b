"""Measured numbers: runs found by configuration, their states, means and spreads over seeds."""

import json
import os
import shutil

import pytest

from experiments.config.errors import ConfigError
from experiments.config.packages import CONF
from experiments.evaluation.results import Skipped, plain
from experiments.reports.measured import measure, published_values
from experiments.tables.reading import read_sweep
from tests.reports.made_runs import replace, share_compositions, write_run
from tokenizer.files import short_hash
from tokenizer.weights import FILES

SWEEP = read_sweep("gsq/table01_codebook", CONF)
ROWS = {row.name: row for row in SWEEP.rows}
FIRST = replace(SWEEP, rows=SWEEP.rows[:1])
TWICE = {"twice": {"image_size_times": 2}}
OF_TWICE = f"evaluation-{short_hash(TWICE['twice'])}"


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    share_compositions(monkeypatch)


def test_without_any_run_every_row_is_not_run_and_nothing_is_composed(monkeypatch):
    monkeypatch.setattr("experiments.reports.measured.compose", lambda *_: pytest.fail("composed"))
    assert [row.state for row in measure(SWEEP, "mini", 3, [])] == ["not run"] * 5


def test_runs_are_found_by_row_and_seed():
    two = replace(SWEEP, rows=[ROWS["uniform"], ROWS["sphere"]])
    write_run(SWEEP, ROWS["sphere"], {"val/psnr": 21.0}, seed=0)
    write_run(SWEEP, ROWS["sphere"], {"val/psnr": 22.0}, seed=2)
    write_run(SWEEP, ROWS["sphere"], {"val/psnr": 99.0}, seed=5)
    uniform, sphere = measure(two, "mini", 3, [])
    assert (uniform.state, sphere.state) == ("not run", "done: seeds 0, 2")
    assert [run.metrics["val/psnr"] for run in sphere.measured] == [21.0, 22.0]


def test_runs_of_another_scale_or_with_other_words_are_other_runs():
    write_run(SWEEP, ROWS["uniform"], {"val/psnr": 21.0})
    assert measure(FIRST, "mini", 1, [])[0].state == "done"
    assert measure(FIRST, "smoke", 1, [])[0].state == "not run"
    assert measure(FIRST, "mini", 1, ["batch_size=32"])[0].state == "not run"


def test_mean_and_spread_are_those_of_the_seeds():
    for seed, value in enumerate((20.0, 21.0, 25.0)):
        write_run(SWEEP, ROWS["uniform"], {"val/psnr": value}, seed)
    (row,) = measure(FIRST, "mini", 10, [])
    mean = row.mean("val/psnr")
    assert mean is not None
    # deviations -2, -1, 3: their squares sum to 14, over 2 degrees of freedom
    assert (mean.value, mean.spread, mean.seeds) == (22.0, pytest.approx(7**0.5), 3)
    assert row.mean("val/rfid") is None


def test_a_single_seed_has_no_spread():
    write_run(SWEEP, ROWS["uniform"], {"val/psnr": 20.0})
    (row,) = measure(FIRST, "mini", 10, [])
    mean = row.mean("val/psnr")
    assert mean is not None
    assert (mean.value, mean.spread, mean.seeds) == (20.0, None, 1)
    assert row.state == "done"


def test_only_finished_runs_have_numbers():
    write_run(SWEEP, ROWS["uniform"], {"val/psnr": 20.0}, seed=0)
    write_run(SWEEP, ROWS["uniform"], {"val/psnr": 1.0}, seed=1, state="failed", error="loss is nan")
    write_run(SWEEP, ROWS["uniform"], {"val/psnr": 1.0}, seed=2, state="running")
    (row,) = measure(FIRST, "mini", 10, [])
    assert row.state == "done: seed 0; failed: seed 1; interrupted: seed 2"
    assert [run.error for run in row.runs] == ["", "loss is nan", ""]
    mean = row.mean("val/psnr")
    assert mean is not None
    assert mean.value == 20.0


def test_a_run_is_running_as_long_as_its_process_holds_the_folder():
    folder = write_run(SWEEP, ROWS["uniform"], {}, state="running")
    with folder.lock():
        assert measure(FIRST, "mini", 1, [])[0].state == "running"
    assert measure(FIRST, "mini", 1, [])[0].state == "interrupted"


def test_of_two_runs_of_one_configuration_the_newer_counts():
    older = write_run(SWEEP, ROWS["uniform"], {"val/psnr": 20.0})
    shutil.copytree(older.path, older.path.with_name("newer"))
    for name, when in (("newer", 2000), (older.path.name, 1000)):
        os.utime(older.path.with_name(name) / "environment.json", (when, when))
    assert measure(FIRST, "mini", 1, [])[0].runs[0].folder.name == "newer"


def test_why_a_number_is_missing_names_no_place_on_a_machine():
    absent = Skipped("the network needs a file, expected at /home/somebody/inception.pth: fetch it", "inception")
    skipped = plain({"rfid": absent, "ssim": Skipped("images are too small")})
    write_run(SWEEP, ROWS["uniform"], {"val/psnr": 20.0}, skipped=skipped)
    (row,) = measure(FIRST, "mini", 1, [])
    assert row.why_missing("val/rfid") == f"weights absent: {FILES['inception'].purpose} needs {FILES['inception'].filename}"
    assert row.why_missing("val/ssim") == "images are too small"
    assert row.why_missing("val/fvd") == "not in its results"


def test_an_extra_evaluation_is_read_under_its_name():
    sweep = replace(FIRST, evaluations=TWICE, columns=[replace(SWEEP.columns[0], key="val_twice/rfid"), *SWEEP.columns[1:]])
    folder = write_run(SWEEP, ROWS["uniform"], {"val/rfid": 5.0})
    assert measure(sweep, "mini", 1, [])[0].why_missing("val_twice/rfid") == "evaluation twice not run"
    result = {
        "metrics": {"val/rfid": 2.0, "val_raw/rfid": 9.0},
        "cards": {"val/rfid": {"n": 7}},
        "skipped": plain({"lpips": Skipped("absent")}),
    }
    evaluated(folder, OF_TWICE, **result)
    run = measure(sweep, "mini", 1, [])[0].runs[0]
    assert (run.metrics["val/rfid"], run.metrics["val_twice/rfid"]) == (5.0, 2.0)
    assert run.cards["val_twice/rfid"] == {"n": 7}
    assert run.skipped == {"val_twice/lpips": "absent"}


def evaluated(folder, name, **result):
    """Leave the result of an evaluation in a run folder."""
    (folder.path / "evaluations" / name).mkdir(parents=True)
    (folder.path / "evaluations" / name / "result.json").write_text(json.dumps(result))


def test_what_training_skipped_is_read_from_the_evaluation_that_completed_it():
    absent = plain({"rfid": Skipped("it needs x", "inception"), "lpips": Skipped("it needs y", "alexnet")})
    folder = write_run(SWEEP, ROWS["uniform"], {"val/psnr": 20.0}, skipped=absent)
    metrics = {"val/rfid": 2.0, "val/psnr": 99.0, "val_raw/rfid": 9.0}
    cards = {key: {"metric": key, "n": 7} for key in metrics}
    evaluated(folder, "completed", state="done", metrics=metrics, cards=cards, skipped={"lpips": absent["lpips"]})
    run = measure(FIRST, "mini", 1, [])[0].runs[0]
    assert run.metrics == {"val/psnr": 20.0, "val/rfid": 2.0}
    assert (run.cards["val/psnr"]["n"], run.cards["val/rfid"]) == (516, {"metric": "val/rfid", "n": 7})
    assert run.skipped == {"val/lpips": f"weights absent: {FILES['alexnet'].purpose} needs {FILES['alexnet'].filename}"}
    assert run.description == "done"


def test_a_failed_evaluation_is_named_beside_the_state_and_leaves_the_other_numbers():
    sweep = replace(FIRST, evaluations=TWICE, columns=[replace(SWEEP.columns[0], key="val_twice/rfid"), *SWEEP.columns[1:]])
    for seed in range(2):
        folder = write_run(SWEEP, ROWS["uniform"], {"val/psnr": 20.0}, seed)
        if seed == 0:
            evaluated(folder, OF_TWICE, state="done", metrics={"val/rfid": 2.0}, cards={"val/rfid": {"n": 7}})
        else:
            evaluated(folder, OF_TWICE, state="failed", error="out of memory")
    (row,) = measure(sweep, "mini", 2, [])
    assert row.state == "done: seed 0; done, evaluation twice failed: seed 1"
    assert [run.failed for run in row.runs] == [{}, {"evaluation twice": "out of memory"}]
    assert row.runs[1].skipped == {"val_twice/rfid": "evaluation twice failed"}
    assert [mean.seeds for mean in (row.mean("val/psnr"), row.mean("val_twice/rfid")) if mean] == [2, 1]


def test_a_completion_that_failed_is_why_numbers_are_missing():
    folder = write_run(SWEEP, ROWS["uniform"], {"val/psnr": 20.0}, skipped=plain({"rfid": Skipped("it needs x", "inception")}))
    evaluated(folder, "completed", state="failed", error="killed")
    (row,) = measure(FIRST, "mini", 1, [])
    assert (row.state, row.why_missing("val/rfid")) == ("done, evaluation completed failed", "evaluation completed failed")


def test_a_row_whose_weights_are_absent_is_marked(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path / "none"))
    write_run(SWEEP, ROWS["uniform"], {"val/psnr": 20.0})
    needy = replace(ROWS["sphere"], overrides={**ROWS["sphere"].overrides, "loss": "lpips", "loss.weights.perceptual": 1.0})
    rows = measure(replace(SWEEP, rows=[ROWS["uniform"], needy]), "mini", 1, [])
    assert [row.state for row in rows] == ["done", "weights absent"]
    assert rows[1].why_missing("val/psnr") == "weights absent"


def test_a_report_needs_no_data_folder_at_the_papers_scale():
    write_run(SWEEP, ROWS["uniform"], {"val/psnr": 20.0})
    assert [row.state for row in measure(FIRST, "paper", 1, ["loss.weights.perceptual=0"])] == ["not run"]


def test_a_wrong_word_names_file_and_row():
    write_run(SWEEP, ROWS["uniform"], {"val/psnr": 20.0})
    with pytest.raises(ConfigError, match=r"table01_codebook.yaml, row 1 \(uniform\): batchsize=3: .*nearest: `batch_size`"):
        measure(FIRST, "mini", 1, ["batchsize=3"])


@pytest.mark.parametrize("scale", ["paper", "mini", "smoke"])
def test_a_wrong_word_is_named_though_nothing_was_run(scale):
    with pytest.raises(ConfigError, match=r"row 1 \(uniform\): runs_foldr=/x: .*nearest: `runs_folder`"):
        measure(SWEEP, scale, 1, ["runs_foldr=/x"])
    with pytest.raises(ConfigError, match=r"row sphere_l1 of .* sets this itself"):
        measure(replace(SWEEP, rows=[replace(SWEEP.rows[0], overrides={}), ROWS["sphere_l1"]]), scale, 1, ["quantizer.normalization=l2"])


def test_a_right_word_needs_no_run_no_data_and_no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path / "none"))
    assert [row.state for row in measure(SWEEP, "paper", 1, ["batch_size=32"])] == ["not run"] * 5


def test_the_runs_folder_may_be_named(tmp_path):
    write_run(SWEEP, ROWS["uniform"], {"val/psnr": 20.0})
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    assert measure(FIRST, "mini", 1, ["runs_folder=elsewhere"])[0].state == "done"
    assert measure(FIRST, "mini", 1, [])[0].state == "not run"


def test_published_values_are_in_the_unit_of_results():
    values = published_values(SWEEP)
    assert values["uniform", "val/codebook_usage"] == pytest.approx(0.0338)
    assert values["uniform", "val/rfid"] == 11.37
    assert len(values) == 35
