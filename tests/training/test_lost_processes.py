"""Two processes of which one is killed, freezes, fails or is asked to end: no process outlives the run, and its state names the reason."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.config.packages import ROOT
from experiments.runs.folder import RunFolder

WORDS = [
    "scale=smoke", "data=digits", "discriminator=none", "updates=4", "checkpoint_every=1", "validate_every=4", "workers=0",
    "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true", "runs_folder=runs",
]  # fmt: skip
PROGRAM = """
import os, signal, time
from pathlib import Path
from experiments import train
from experiments.config.compose import main
from experiments.training import peers, strategy
from experiments.config.errors import DiskFull
from experiments.training.callbacks import saving
from experiments.training.tokenizer_task import TokenizerTask

fault, rank = os.environ["FAULT"], int(os.environ["FAULTY_RANK"])
peers.SILENCE = 4
me = int(os.environ.get("LOCAL_RANK", "0"))
Path(f"pid_{me}").write_text(str(os.getpid()))
step, save, meet = TokenizerTask.training_step, saving.save_checkpoint, strategy.DataParallelStrategy.setup_environment

def faulty_step(task, batch, index):
    if (me, task.updates) == (rank, 2):
        if fault.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, fault))
    return step(task, batch, index)

def faulty_save(checkpoint, path):
    if (me, fault) == (rank, "full") and path.stem.endswith("2"):
        raise DiskFull(path, "no space left")
    save(checkpoint, path)

def faulty_meeting(self):
    if fault == "meeting" and me == 0:
        while not Path("pid_1").exists():
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)
    meet(self)

TokenizerTask.training_step, saving.save_checkpoint = faulty_step, faulty_save
strategy.DataParallelStrategy.setup_environment = faulty_meeting
main("train", train.run, "")
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def run(folder: Path, fault: str, rank: int) -> tuple[int, str, RunFolder]:
    """Exit status, standard error and folder of a run in which a process has a fault after two updates; both processes have ended."""
    (folder / "program.py").write_text(PROGRAM)
    faults = {"FAULT": fault, "FAULTY_RANK": str(rank), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with open(folder / "log", "w") as log:
        process = subprocess.Popen([sys.executable, "program.py", *WORDS], cwd=folder, env={**os.environ, **faults}, stderr=log)
        try:
            status = process.wait(300)
            pids = [int((folder / f"pid_{number}").read_text()) for number in (0, 1)]
            end = time.monotonic() + 30
            while any(map(is_alive, pids)) and time.monotonic() < end:
                time.sleep(0.1)
            assert not any(map(is_alive, pids)), (folder / "log").read_text()
        finally:
            process.kill()
    paths = list(folder.glob("runs/*/*"))
    return status, (folder / "log").read_text(), RunFolder(paths[0])


pytestmark = pytest.mark.slow


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("fault", ["SIGKILL", "SIGSTOP"])
def test_a_lost_process_ends_the_other_with_one_sentence(fault, rank, tmp_path):
    status, log, folder = run(tmp_path, fault, rank)
    assert status == (1 if rank == 1 else -signal.SIGKILL)
    assert folder.state == "failed"
    assert "Traceback" not in log
    assert log.count(f"process {rank} of the run") == 1
    assert folder.result["error"].startswith(f"process {rank} of the run")
    assert folder.checkpoint_files[-1].name == "updates_00000002.ckpt"


def test_a_save_that_fails_in_the_first_process_ends_both(tmp_path):
    status, log, folder = run(tmp_path, "full", 0)
    assert (status, folder.state) == (1, "failed")
    assert "Traceback" not in log
    assert log.count("error: ") == 1


def test_a_request_to_end_while_processes_meet_ends_both(tmp_path):
    status, _, folder = run(tmp_path, "meeting", 0)
    assert (status, folder.state) == (-signal.SIGTERM, "running")
