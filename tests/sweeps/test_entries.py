"""States of a sweep's jobs, read from what their processes left."""

from pathlib import Path

import pytest

from experiments.evaluation.results import computable
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


def skipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a result says where no weights are there."""
    monkeypatch.setenv("TESSERA_WEIGHTS", str(folder))
    with pytest.raises(MissingWeightsError) as caught:
        find_weights("inception")
    return {"rfid": str(caught.value), "lpips": f"{FILES['alexnet'].filename} is absent on another machine", "ssim": "too small"}


def test_what_was_left_out_can_be_computed_once_its_own_weights_are_there(tmp_path, monkeypatch):
    result = {"skipped": skipped(tmp_path, monkeypatch)}
    assert computable(result) == []
    FILES["vgg16"].path.touch()
    assert computable(result) == []
    FILES["inception"].path.touch()
    assert computable(result) == ["rfid"]
    FILES["alexnet"].path.touch()
    assert computable(result) == ["rfid", "lpips"]
    assert computable({"skipped": {"rfid": f"{FILES['inception'].path} cannot be read as the weights of inception"}}) == []


def test_an_evaluation_is_not_done_while_it_lacks_what_can_be_computed(entry, tmp_path, monkeypatch):
    entry.stages[1].folder.write_result("done", {}, {}, skipped=skipped(tmp_path, monkeypatch))
    assert (entry.look(), entry.seconds) == ("done", 1.0)
    FILES["inception"].path.touch()
    assert entry.look() == "interrupted"


def test_a_failed_evaluation_is_a_failed_row_and_says_why(entry):
    assert entry.look() == "interrupted"
    entry.stages[1].folder.write_result("failed", {}, {}, error="exit 1: no pictures")
    assert (entry.look(), entry.note) == ("failed", "exit 1: no pictures")
