"""The SLURM launcher with submitit's local executor."""

import builtins
import json
import signal
import sys
import time

import pytest

from experiments.config.errors import ConfigError
from experiments.runs.folder import RunFolder
from experiments.sweeps.entries import Entry, Stage
from experiments.sweeps.jobs import Job
from experiments.sweeps.launchers import gpus_of_a_slot
from experiments.sweeps.launchers_slurm import QueuedStages, QueueLauncher
from experiments.sweeps.runner import Runner
from experiments.tables.sweep_file import Row

SLURM = {"partition": None, "timeout_min": 30, "gpus_per_node": 0, "cpus_per_task": 1, "memory": "1GB", "requeues": 2}
OPENING = "import os, signal, sys, time\nfrom experiments.runs.folder import RunFolder\nfolder = RunFolder({folder!r})\n"
DONE = "folder.write_result('done', {'perf/seconds': 1.0}, {})"


def entry(folder, name, program=DONE):
    stage = Stage([sys.executable, "-c", OPENING.format(folder=str(folder / name)) + program], folder / name / "result.json")
    return Entry(Job(Row(name=name), 0, [], None), None, RunFolder(folder / name), [stage], folder / f"{name}.log", "not run")


@pytest.fixture
def launcher(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("SLURM_NTASKS", "8")  # as inside a job; Lightning would count on it
    return QueueLauncher("local", tmp_path / "submitit", 1, SLURM)


def test_jobs_of_the_queue_end_as_local_ones_do(launcher, tmp_path):
    program = f"assert not [name for name in os.environ if name.startswith(('SLURM_', 'SUBMITIT_'))]; {DONE}"
    entries = [entry(tmp_path, "a", program), entry(tmp_path, "b", "raise SystemExit('no such thing')")]
    seen = []
    status = Runner(entries, launcher, lambda: seen.append([each.state for each in entries])).run()
    assert (status, [each.state for each in entries]) == (0, ["done", "failed"])
    assert entries[1].note == "exit 1: no such thing"
    assert ["running", "running"] not in seen


def test_a_job_that_is_put_back_into_the_queue_lets_its_training_save_and_resumes(launcher, tmp_path):
    program = f"""
def leave(number, frame):
    time.sleep(0.3)  # it saves
    folder.write_result('running', {{'saved': 1.0}}, {{}})
    sys.exit(128 + number)

signal.signal(signal.SIGTERM, leave)
if folder.state == 'absent':
    os.kill(os.getppid(), signal.SIGUSR2)
    time.sleep(60)
assert folder.result['metrics'] == {{'saved': 1.0}}
{DONE}
"""
    row = entry(tmp_path, "a", program)
    Runner([row], launcher, lambda: None).run()
    assert row.state == "done", row.note
    assert row.log.read_text().count("$ ") == 2


def test_a_canceled_job_lets_its_training_save_although_a_shell_in_the_background_ignores_sigint(tmp_path, request):
    pytest.importorskip("submitit")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    launcher = QueueLauncher("local", tmp_path / "submitit", 1, SLURM)
    program = """
def leave(number, frame):
    folder.write_result('running', {'saved': 1.0}, {})
    sys.exit(128 + number)

signal.signal(signal.SIGTERM, leave)
folder.write_result('running', {}, {})
time.sleep(600)
"""
    row = entry(tmp_path, "a", program)
    with launcher.together():
        handle = launcher.start(row, 0)
    wait_until(lambda: row.folder.state == "running")
    handle.interrupt(2)
    wait_until(lambda: handle.poll() is not None and "saved" in row.folder.result["metrics"])
    assert handle.poll() == 1


def wait_until(met, seconds=40.0):  # a busy machine starts processes slowly
    until = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < until
        time.sleep(0.05)


class FakeJob:
    """Replaces a submitit job that an earlier sweep submitted."""

    state = "PENDING"
    looks = 3

    def __init__(self, folder, job_id):
        self.seen = (folder, job_id)

    def done(self, force_check=False):
        type(self).looks -= 1
        return self.looks < 0

    def exception(self):
        return None

    def result(self):
        RunFolder(self.seen[0]).write_result("done", {"perf/seconds": 5.0}, {})
        return 0


def test_a_sweep_that_is_started_again_watches_the_jobs_of_the_first_one(launcher, tmp_path, monkeypatch):
    program = "time.sleep(60)"
    first = entry(tmp_path, "a", program)
    with launcher.together():
        handle = launcher.start(first, 0)
    stored = json.loads((tmp_path / "a.job").read_text())
    assert stored == {"folder": str(tmp_path / "submitit"), "job": handle.job.job_id}
    handle.interrupt(15)
    assert not (tmp_path / "a.job").exists()

    (tmp_path / "a.job").write_text(json.dumps({"folder": str(tmp_path / "a"), "job": "17_0"}))
    monkeypatch.setattr(FakeJob, "looks", 3)
    monkeypatch.setattr(launcher, "job_class", FakeJob)
    monkeypatch.setattr(launcher.executor, "submit", lambda stages: pytest.fail("submitted twice"))
    row = entry(tmp_path, "a", program)
    seen = []
    Runner([row], launcher, lambda: seen.append(row.state)).run()
    assert (row.state, row.seconds, seen[0]) == ("done", 5.0, "running")
    assert not (tmp_path / "a.job").exists()


def test_a_job_that_is_over_is_submitted_again_and_one_of_unknown_state_is_not(launcher, tmp_path, monkeypatch):
    (tmp_path / "a.job").write_text(json.dumps({"folder": str(tmp_path / "submitit"), "job": "1"}))
    row = entry(tmp_path, "a")
    Runner([row], launcher, lambda: None).run()
    assert row.state == "done"
    (tmp_path / "b.job").write_text(json.dumps({"folder": str(tmp_path / "submitit"), "job": "17_0"}))
    monkeypatch.setattr(launcher, "job_class", type("Lost", (FakeJob,), {"state": "UNKNOWN", "looks": 3}))
    with pytest.raises(ConfigError, match=r"b\.job: SLURM does not know the state of job 17_0; .*remove this file"):
        Runner([entry(tmp_path, "b")], launcher, lambda: None).run()


def test_finished_steps_are_not_repeated(tmp_path):
    row = entry(tmp_path, "a", "raise SystemExit(1)")
    row.folder.write_result("done", {}, {})
    assert QueuedStages(row.stages, row.log)() == 0
    assert not row.log.exists()


def test_without_submitit_the_message_has_the_command_to_install_it(tmp_path, monkeypatch):
    real = builtins.__import__

    def absent(name, *rest):
        if name == "submitit":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match=r"launcher=slurm: needs submitit; pip install .*\[slurm\]"):
        QueueLauncher("slurm", tmp_path, 1, SLURM)


def test_without_slurm_the_message_has_the_place_to_start_it(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"launcher=slurm: .*start it where sbatch is"):
        QueueLauncher("slurm", tmp_path, 1, SLURM)


def test_jobs_share_gpus_evenly_and_each_gets_one():
    assert [gpus_of_a_slot(*numbers) for numbers in ((8, 1), (8, 3), (2, 4), (0, 2))] == [8, 2, 1, 0]
