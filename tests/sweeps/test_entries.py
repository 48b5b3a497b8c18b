"""States of a sweep's jobs, read from what their processes left."""

from pathlib import Path
from typing import Any

import pytest

from experiments.evaluation.results import Skipped, computable, plain, skipped_of
from experiments.runs.folder import RunFolder
from experiments.sweeps.entries import Entry, EvaluationStage, Stage
from experiments.sweeps.jobs import Job
from experiments.tables.sweep_file import Row
from tokenizer.weights import FILES, MissingWeightsError, find_weights


@pytest.fixture
def entry(tmp_path) -> Entry:
    """One whose training is done and whose evaluation is not."""
    folder = RunFolder(tmp_path / "a")
    folder.write_result("done", {"perf/seconds": 1.0}, {})
    stages = [Stage([], folder.path / "result.json"), EvaluationStage([], folder.path / "evaluations" / "twice" / "result.json")]
    return Entry(Job(Row(name="a"), 0, [], None), None, folder, stages)


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


def test_a_failed_evaluation_is_a_failed_row_and_says_why(entry):
    assert entry.look() == "interrupted"
    entry.stages[1].folder.write_result("failed", {}, {}, error="exit 1: no pictures")
    assert (entry.look(), entry.note) == ("failed", "exit 1: no pictures")
