"""Results cache by their inputs."""

import json

import pytest

from experiments.evaluation.results import Results, Skipped, joined
from experiments.probing.cache import ResultCache, renamed
from tokenizer.weights import FILES


class Computing:
    """Counts how often it was asked."""

    def __init__(self, skipped=None):
        self.times = 0
        self.skipped = skipped or {}

    def __call__(self) -> Results:
        self.times += 1
        return Results({"a": float(self.times)}, {"a": {"n": 3}}, self.skipped)


def test_the_same_inputs_are_computed_once_and_others_apart(tmp_path):
    cache, work = ResultCache(tmp_path), Computing()
    first = cache.get("stage", {"seed": 0}, work)
    assert ResultCache(tmp_path).get("stage", {"seed": 0}, work) == first
    assert work.times == 1
    assert cache.get("stage", {"seed": 1}, work).values == {"a": 2.0}
    assert cache.get("other", {"seed": 0}, work).values == {"a": 3.0}


def test_the_file_has_its_inputs(tmp_path):
    ResultCache(tmp_path).get("stage", {"seed": 7}, Computing())
    (file,) = (tmp_path / "stage").iterdir()
    assert json.loads(file.read_text())["inputs"] == {"seed": 7}


def test_what_lacked_weights_is_computed_again_once_they_are_there(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    cache, work = ResultCache(tmp_path / "cache"), Computing({"gfid": Skipped("no file", "inception")})
    cache.get("stage", {}, work)
    cache.get("stage", {}, work)
    assert work.times == 1
    FILES["inception"].path.write_bytes(b"weights")
    cache.get("stage", {}, work)
    assert work.times == 2


def test_a_failed_stage_stores_nothing(tmp_path):
    def fail() -> Results:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        ResultCache(tmp_path).get("stage", {}, fail)
    assert ResultCache(tmp_path).get("stage", {}, Computing()).values == {"a": 1.0}


def test_joined_results_skip_nothing_that_one_of_them_has():
    whole = joined([Results(skipped={"a": Skipped("absent"), "b": Skipped("absent")}), Results({"a": 1.0}, {"a": {}})])
    assert (whole.values, whole.skipped) == ({"a": 1.0}, {"b": Skipped("absent")})


def test_renaming_leaves_out_what_it_does_not_name():
    results = Results({"a": 1.0, "b": 2.0}, {"a": {"n": 1}, "b": {}}, {"c": Skipped("absent"), "d": Skipped("absent")})
    found = renamed(results, {"a": "x", "c": "y"})
    assert found == Results({"x": 1.0}, {"x": {"n": 1}}, {"y": Skipped("absent")})
