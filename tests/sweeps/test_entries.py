"""States of a sweep's jobs, read from the files of their processes."""

from pathlib import Path
from typing import Any

import pytest

from experiments.evaluation.results import Skipped, computable, plain, skipped_of
from experiments.runs.folder import RunFolder
from experiments.sweeps.entries import Entry, MeasuringStage, Stage, sync_duplicates, without_duplicates
from experiments.sweeps.jobs import Job
from experiments.tables.sweep_file import Row
from tokenizer.weights import FILES, MissingWeightsError, find_weights


@pytest.fixture
def entry(tmp_path) -> Entry:
    """One whose training is done and whose evaluation is not."""
    folder = RunFolder(tmp_path / "a")
    folder.write_result("done", {"perf/seconds": 1.0}, {})
    return entry_of(folder, "twice")


def entry_of(folder: RunFolder, *names: str) -> Entry:
    """An entry with a training and a stage for each name."""
    others = [MeasuringStage([], folder.path / "evaluations" / name / "result.json", name) for name in names]
    return Entry(Job(Row(name="a"), 0, [], None), None, folder, [Stage([], folder.path / "result.json"), *others])


def skipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Skipped metrics in a result where there are no weights."""
    monkeypatch.setenv("TESSERA_WEIGHTS", str(folder))
    with pytest.raises(MissingWeightsError) as caught:
        find_weights("inception")
    elsewhere = Skipped(f"{FILES['alexnet'].filename} is absent on another machine", "alexnet")
    return plain({"rfid": Skipped(str(caught.value), caught.value.name), "lpips": elsewhere, "ssim": Skipped("too small")})


def test_what_was_left_out_can_be_computed_once_its_own_weights_are_there(tmp_path, monkeypatch):
    result = {"skipped": skipped(tmp_path, monkeypatch)}
    assert computable(result) == []
    FILES["vgg16"].path.touch()
    assert computable(result) == []
    FILES["inception"].path.touch()
    assert computable(result) == ["rfid"]
    FILES["alexnet"].path.touch()
    assert computable(result) == ["rfid", "lpips"]
    assert computable({"skipped": {"rfid": {"reason": "the file cannot be read", "weights": None}}}) == []


def test_a_result_of_an_older_version_holds_reasons_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    FILES["inception"].path.touch()
    result = {"skipped": {"rfid": f"it needs {FILES['inception'].filename}, expected at x"}}
    assert skipped_of(result) == {"rfid": Skipped(f"it needs {FILES['inception'].filename}, expected at x")}
    assert computable(result) == []


def test_an_evaluation_is_not_done_while_it_lacks_what_can_be_computed(entry, tmp_path, monkeypatch):
    entry.stages[1].folder.write_result("done", {}, {}, skipped=skipped(tmp_path, monkeypatch))
    assert (entry.look(), entry.seconds) == ("done", 1.0)
    FILES["inception"].path.touch()
    assert entry.look() == "interrupted"


def test_a_failed_evaluation_is_a_failed_row_with_its_reason(entry):
    assert entry.look() == "interrupted"
    entry.stages[1].folder.write_result("failed", {}, {}, error="exit 1: no images")
    assert (entry.look(), entry.note) == ("failed", "exit 1: no images")


def test_the_stage_that_is_next_or_failed_is_named_and_only_where_there_are_several(entry):
    entry.look()
    assert entry.description == "interrupted (twice)"
    entry.stages[1].folder.write_result("failed", {}, {})
    entry.look()
    assert entry.description == "failed (twice)"
    entry.stages[1].folder.write_result("done", {}, {})
    entry.look()
    assert entry.description == "done"
    entry.state = "running"
    assert entry.description == "running (twice)"
    alone = entry_of(entry.folder)
    alone.state = "running"
    assert alone.description == "running"


def test_an_entry_runs_while_a_process_holds_the_folder_of_any_of_its_stages(entry):
    with entry.stages[1].folder.lock():
        assert entry.look() == "running"
        assert entry_of(entry.folder, "thrice").look() == "interrupted"
    assert entry.look() == "interrupted"


def test_seconds_are_those_of_all_stages_that_recorded_theirs(entry):
    for stage, seconds in zip(entry_of(entry.folder, "twice", "probe").stages[1:], ({}, {"seconds": 2.5}), strict=True):
        stage.folder.write_result("done", {}, {}, **seconds)
    probed = entry_of(entry.folder, "twice", "probe")
    assert (probed.look(), probed.seconds, probed.stages[2].seconds) == ("done", 3.5, 2.5)


def test_rows_of_one_run_with_other_probes_are_no_duplicates(tmp_path):
    folder = RunFolder(tmp_path / "a")
    rows = [entry_of(folder, "small"), entry_of(folder, "large"), entry_of(folder, "small")]
    assert without_duplicates(rows) == [rows[0], rows[1]]
    rows[0].state, rows[1].state = "done", "failed"
    sync_duplicates(rows)
    assert [row.state for row in rows] == ["done", "failed", "done"]
