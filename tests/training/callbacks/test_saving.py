"""Checkpoints that cannot be written."""

import resource

import pytest
import torch

from experiments.config.errors import DiskFull
from experiments.runs.checkpoints import load_checkpoint
from experiments.training.callbacks.saving import AtomicCheckpointIO


@pytest.fixture
def files_of_at_most_200_kb():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_write_limit_is_one_message_and_the_earlier_checkpoint_stays(tmp_path, files_of_at_most_200_kb):
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"weights": torch.zeros(10)}, tmp_path / "1")
    with pytest.raises(DiskFull, match="too large") as caught:
        writer.save_checkpoint({"weights": torch.zeros(250_000)}, tmp_path / "2")
    assert (caught.value.path, caught.value.needed) == (tmp_path / "2", 1_000_000)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert torch.equal(load_checkpoint(tmp_path / "1")["weights"], torch.zeros(10))


def test_other_errors_while_saving_keep_their_message(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("something else")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="something else"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "1")
