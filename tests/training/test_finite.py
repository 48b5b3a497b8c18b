"""Two processes, one bad image: the error of both processes names it."""

import os
import subprocess
import sys

import pytest
import torch

from experiments.config.errors import NonFinite
from experiments.config.packages import ROOT
from experiments.training.finite import FiniteCheck

BAD = """
import os, sys, torch
from experiments.config.errors import NonFinite
from experiments.training.finite import FiniteCheck
rank, store = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
wrapped = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))
nan = torch.tensor(float("nan"))
for where in ("term", "gradient"):
    wrapped.module.check = check = FiniteCheck(("reconstruction",))
    for update in (1, 2):
        wrapped(torch.zeros(1, 1))
        check.watch(update, [f"image {update} of process {rank}"])
        bad = update == 1
        term = nan if bad and rank == 1 and where == "term" else torch.tensor(0.5)
        skip = check(update, {"reconstruction": term}, [nan if bad else torch.tensor(1.0)])
        assert bool(skip) == bad
    try:
        check.verify()
    except NonFinite as error:
        print(error, flush=True)
os._exit(0)  # gloo's threads may end a process on its way out
"""


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    """Error messages of both processes, for a loss that is not finite only on the second and for a gradient, which both share."""
    store = tmp_path_factory.mktemp("store") / "store"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    commands = [[sys.executable, "-c", BAD, str(rank), str(store)] for rank in (0, 1)]
    processes = [subprocess.Popen(c, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for c in commands]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    return dict(zip(("term", "gradient"), zip(*(output.splitlines() for output, _ in outputs), strict=True), strict=True))


def test_a_bad_loss_names_only_the_images_of_its_process(messages):
    first, second = messages["term"]
    assert first == second
    assert "update 1: " in first
    assert "reconstruction=nan" in first
    assert "Images: image 1 of process 1. " in first


def test_a_bad_gradient_names_the_images_of_all_processes(messages):
    first, second = messages["gradient"]
    assert first == second
    assert "reconstruction=0.5" in first
    assert "Images: image 1 of process 0, image 1 of process 1. " in first


def test_the_check_has_nothing_that_a_data_parallel_wrapper_would_overwrite():
    check = FiniteCheck(("reconstruction",))
    assert not isinstance(check, torch.nn.Module)
    check(1, {"reconstruction": torch.tensor(float("inf"))}, [torch.tensor(1.0)])
    with pytest.raises(NonFinite, match="reconstruction=inf"):
        check.verify()
