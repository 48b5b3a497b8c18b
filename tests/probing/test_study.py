"""What a study and the results of its tokenizers are named by, and how it treats a training that another process has."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from experiments.config.compose import compose
from experiments.evaluation.protocol import protocol_id, result_folder
from experiments.probing import study as studies
from experiments.probing.candidates import Candidate, TokenizerLocation
from experiments.probing.study import Study
from experiments.runs.folder import RunFolder
from experiments.runs.processes import TrainingFailedError


def composed(*words: str):
    return compose("probe", ["tokenizer=nothing", "image_size=32", *words])


def study(*words: str) -> Study:
    return Study(composed(*words), torch.device("cpu"))


def folder_of(*words: str) -> str:
    return result_folder(composed(*words).config, "small")


def test_seeds_share_a_protocol_so_that_their_numbers_compare_but_not_a_report(tmp_path):
    (tmp_path / "reference.npz").write_bytes(b"any")
    plain, again, other = study(), study("workers=0"), study("seed=1")
    assert plain.protocol == again.protocol == other.protocol
    assert plain.name([]) == again.name([]) != other.name([])
    assert study("linear.epochs=3", "linear.warmup_epochs=1").protocol != plain.protocol
    assert study(f"reference={tmp_path / 'reference.npz'}").name([]) != plain.name([])


def test_a_protocol_is_named_by_all_its_settings_and_the_precision_of_its_training():
    plain = protocol_id(composed().config, "small")
    name, _, digest = plain.partition(" ")
    assert (name, len(digest)) == ("small", 6)
    for word in ("samples=3", "crops=ten_crop", "guidance.step=1", "training.settings.updates=9", "trainer.precision=bf16-mixed"):
        assert protocol_id(composed(word).config, "small") != plain


def test_results_are_apart_by_whatever_changes_them_and_by_nothing_else(tmp_path):
    (tmp_path / "reference.npz").write_bytes(b"any")
    plain = folder_of()
    assert plain.startswith("probe-small-")
    assert {folder_of(word) for word in ("workers=0", "batch_size=8", "device=cpu", "trainer=cpu", "runs_folder=elsewhere")} == {plain}
    others = ["seed=1", "data=digits", "samples=3", f"reference={tmp_path / 'reference.npz'}"]
    assert len({plain, *map(folder_of, others)}) == 1 + len(others)
    here, there = (folder_of("data=image_folder", f"data.root={tmp_path / name}") for name in ("here", "there"))
    assert here == there


def test_results_are_in_the_run_folder_of_the_tokenizer_and_elsewhere_for_an_export(tmp_path):
    run, export = tmp_path / "gsq" / "run", tmp_path / "gsq" / "export"
    for folder, file in ((run, "config.yaml"), (export, "config.json")):
        folder.mkdir(parents=True)
        (folder / file).write_text("{}")
    made = study()
    of_run, of_export = (made.result_file(TokenizerLocation(folder, "a", {})) for folder in (run, export))
    assert of_run == run / "evaluations" / made.result_folder / "result.json"
    assert of_export == Path("runs/evaluations/gsq/export") / made.result_folder / "result.json"


@pytest.fixture
def training(tmp_path, monkeypatch):
    """A study whose training has a folder made by hand; calls the stages that it needs."""
    folder = RunFolder(tmp_path / "ar" / "run")
    monkeypatch.setattr(studies, "find_folder", lambda *_: (folder, {}))
    monkeypatch.setattr(studies, "build", lambda _: None)
    candidate = Candidate(TokenizerLocation(tmp_path, "a", {}), None, "ema", "", None, None)
    composition = SimpleNamespace(config={"data": {}}, choices={"generator": "ar"}, overrides=[])
    return SimpleNamespace(folder=folder, run=lambda: study(f"runs_folder={tmp_path}")._train(candidate, composition))


def test_a_training_that_another_process_has_is_waited_for_and_not_started_again(training, monkeypatch):
    monkeypatch.setattr(studies, "run_training", lambda *_: pytest.fail("trained twice"))
    locked = threading.Event()

    def train_elsewhere():
        with training.folder.lock():
            training.folder.write_result("running", {}, {})
            locked.set()
            time.sleep(0.5)
            training.folder.write_result("done", {}, {})

    other = threading.Thread(target=train_elsewhere)
    other.start()
    locked.wait()
    assert training.run().state == "done"
    other.join()


def test_a_training_that_another_process_took_first_is_waited_for(training, monkeypatch):
    """The other one takes the folder while ours is starting, and ours reports that and exits."""
    release = threading.Event()

    def train_elsewhere():
        with training.folder.lock():
            locked.set()
            release.wait()
            training.folder.write_result("done", {}, {})

    def lose(overrides, output):
        other.start()
        locked.wait()
        threading.Timer(0.3, release.set).start()
        raise TrainingFailedError("in use by another process")

    locked, other = threading.Event(), threading.Thread(target=train_elsewhere)
    monkeypatch.setattr(studies, "run_training", lose)
    assert training.run().state == "done"
    other.join()


def test_a_training_that_fails_is_an_error_and_not_tried_again(training, monkeypatch):
    calls = []

    def fail(overrides, output):
        calls.append(overrides)
        raise TrainingFailedError("out of memory")

    monkeypatch.setattr(studies, "run_training", fail)
    with pytest.raises(TrainingFailedError):
        training.run()
    assert len(calls) == 1
