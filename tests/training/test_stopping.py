"""Runs that are killed or asked to end, and the same command again: to the same bits."""

import gc
import logging
import os
import signal
import time

import pytest

from experiments.data.loading import WholeBatches
from experiments.runs.checkpoints import newest_checkpoint
from experiments.runs.folder import RunFolder
from experiments.training.callbacks.interruption import SIGNALS
from experiments.training.callbacks.validation import Validation
from experiments.training.tokenizer_task import TokenizerTask
from tests.training.whole_runs import Killed, assert_same, final_state, rows, run, the_folder


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> RunFolder:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert run(folder) == 0
    return the_folder(folder)


@pytest.mark.parametrize(
    ("place", "workers"),
    [
        ("before batch 1", 0),
        ("before batch 2", 2),
        ("before batch 3", 0),
        ("in validation", 0),
        ("in the last validation", 2),
        ("before the end", 0),
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_bits(place, workers, uninterrupted, tmp_path, monkeypatch):
    """Update 2 ends within the first epoch, batch 3 holds the epoch's edge."""
    with monkeypatch.context() as patch:
        interrupt(place, patch)
        with pytest.raises(Killed):
            run(tmp_path, f"workers={workers}")
    folder = the_folder(tmp_path)
    (folder.path / "lock.json").unlink(missing_ok=True)
    assert folder.state == "running"
    assert run(tmp_path, f"workers={workers}") == 0
    assert_same(final_state(folder), final_state(uninterrupted))
    assert rows(folder) == rows(uninterrupted)
    ours, theirs = folder.result["metrics"], uninterrupted.result["metrics"]
    assert {k: v for k, v in ours.items() if k != "perf/seconds"} == {k: v for k, v in theirs.items() if k != "perf/seconds"}


def interrupt(place: str, patch: pytest.MonkeyPatch) -> None:
    step, validate, write = TokenizerTask.training_step, Validation.run, RunFolder.write_result

    def killed_step(task, batch, index):
        if place == f"before batch {task.batches}":
            raise Killed
        return step(task, batch, index)

    def killed_validation(self, trainer, task):
        if (place, task.updates) in (("in validation", 3), ("in the last validation", 6)):
            raise Killed
        return validate(self, trainer, task)

    def killed_write(self, state, *args, **kwargs):
        if place == "before the end" and state == "done":
            raise Killed
        return write(self, state, *args, **kwargs)

    patch.setattr(TokenizerTask, "training_step", killed_step)
    patch.setattr(Validation, "run", killed_validation)
    patch.setattr(RunFolder, "write_result", killed_write)


def test_a_truncated_newest_checkpoint_is_named_and_passed_over(uninterrupted, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        interrupt("before batch 4", patch)
        with pytest.raises(Killed):
            run(tmp_path)
    folder = the_folder(tmp_path)
    newest = folder.checkpoints / "updates_00000004.ckpt"
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    with caplog.at_level(logging.WARNING, "experiments"):
        assert newest_checkpoint(folder.checkpoints).name == "updates_00000003.ckpt"
    assert str(newest) in caplog.text
    assert run(tmp_path) == 0
    assert_same(final_state(folder), final_state(uninterrupted))


def test_a_request_to_end_finishes_the_update_and_saves_it(uninterrupted, tmp_path, monkeypatch):
    step = TokenizerTask.training_step

    def signalled(task, batch, index):
        if task.updates == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(task, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(TokenizerTask, "training_step", signalled)
        assert run(tmp_path, "checkpoint_every=100") == 128 + signal.SIGTERM
    folder = the_folder(tmp_path)
    assert newest_checkpoint(folder.checkpoints).name == "updates_00000003.ckpt"
    assert run(tmp_path) == 0
    assert_same(final_state(folder), final_state(uninterrupted))


@pytest.mark.parametrize("batches", [0, 2])
def test_a_signal_while_a_batch_is_read_saves_and_stops_at_once(batches, uninterrupted, tmp_path, monkeypatch):
    read, calls = WholeBatches.__getitems__, []

    def blocked(self, places):
        calls.append(places)
        if len(calls) > batches:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(600)
        return read(self, places)

    with monkeypatch.context() as patch:
        patch.setattr(WholeBatches, "__getitems__", blocked)
        assert run(tmp_path, "checkpoint_every=100", "validate_every=100", "workers=0") == 128 + signal.SIGTERM
    folder = the_folder(tmp_path)
    assert folder.state == "running"
    assert len(folder.checkpoint_files) == min(batches, 1)
    assert run(tmp_path) == 0
    assert_same(final_state(folder), final_state(uninterrupted))


def test_a_signal_ends_a_validation_at_once_and_nothing_is_lost(uninterrupted, tmp_path, monkeypatch):
    """The checkpoint of the update is there already; the run that resumes there validates first."""
    left = []

    def signalled(self, trainer, task):
        os.kill(os.getpid(), signal.SIGTERM)
        left.append("not left")

    with monkeypatch.context() as patch:
        patch.setattr(Validation, "run", signalled)
        assert run(tmp_path, "checkpoint_every=5") == 128 + signal.SIGTERM
    folder = the_folder(tmp_path)
    assert not left
    assert [path.name for path in folder.checkpoint_files] == ["updates_00000003.ckpt"]
    assert run(tmp_path, "checkpoint_every=5") == 0
    assert_same(final_state(folder), final_state(uninterrupted))
    assert rows(folder) == rows(uninterrupted)


def test_a_run_that_has_ended_leaves_signals_to_whoever_had_them_and_holds_no_memory(tmp_path):
    before = {number: signal.getsignal(number) for number in SIGNALS}
    assert run(tmp_path, "updates=1") == 0
    assert {number: signal.getsignal(number) for number in SIGNALS} == before
    gc.collect()
    assert [kept for kept in gc.get_objects() if type(kept) is TokenizerTask] == []
