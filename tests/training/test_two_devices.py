"""A generator on two processes does what it does on one: losses, gradients and likelihoods of the joined batch."""

import csv
import os
import subprocess
import sys

import pytest

from experiments.config.packages import ROOT
from experiments.runs.folder import RunFolder
from tests.training.made_models import GENERATOR, run, write_tokens

WORDS = ["generator.dropout=0", "generator.class_dropout=0", "optimizer.epsilon=1e-3", "validate_every=2", "ema_decay=0.5"]


def numbers(folder: RunFolder) -> list[dict[str, float]]:
    """metrics.csv without what no two runs share."""
    with open(folder.path / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    return [{key: float(value) for key, value in row.items() if value and not key.startswith("perf/")} for row in rows]


@pytest.mark.slow
def test_two_processes_with_half_a_batch_each_do_what_one_does(tmp_path):
    file = write_tokens(tmp_path / "c")
    one = run(tmp_path / "one", file, *WORDS)
    words = [*GENERATOR, *WORDS, f"data.file={file}", f"runs_folder={tmp_path / 'two'}", "trainer.devices=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "experiments.train", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "find_unused_parameters" not in done.stderr
    (path,) = (tmp_path / "two").glob("*/*")
    assert path.name == one.path.name
    expected, ours = numbers(one), numbers(RunFolder(path))
    assert len(expected) == 6
    for theirs, own in zip(expected, ours, strict=True):
        assert own == pytest.approx(theirs, rel=1e-5)
