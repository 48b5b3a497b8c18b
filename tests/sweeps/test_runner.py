"""The runner over small programs instead of trainings: states, failures, requests to end, rows that are the same run."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from experiments.config.packages import ROOT
from experiments.runs.folder import RunFolder
from experiments.runs.processes import last_line
from experiments.sweeps.entries import Entry, sync_duplicates
from experiments.sweeps.jobs import Job
from experiments.sweeps.launchers import LocalLauncher
from experiments.sweeps.runner import Runner
from experiments.tables.sweep_file import Row
from tests.sweeps import made_entries
from tests.sweeps.made_entries import DONE, entry, run


def test_rows_run_one_after_another_and_each_has_its_duration(tmp_path):
    entries = [entry(tmp_path, "a"), entry(tmp_path, "b")]
    seen = run(entries)
    assert [(each.state, each.seconds) for each in entries] == [("done", 2.5)] * 2
    assert ["running", "running"] not in seen
    assert ["running", "not run"] in seen


def test_what_is_done_is_not_started_again(tmp_path):
    finished = entry(tmp_path, "a", "raise SystemExit(1)")
    finished.folder.write_result("done", {"perf/seconds": 1.0}, {})
    finished.look()
    run([finished])
    assert (finished.state, finished.log.exists()) == ("done", False)


def test_a_row_that_crashes_is_marked_with_its_last_line_and_the_others_run(tmp_path):
    entries = [entry(tmp_path, "a", "write('running'); raise ValueError('too wide')"), entry(tmp_path, "b")]
    run(entries)
    assert [each.state for each in entries] == ["failed", "done"]
    assert entries[0].note == "exit 1: ValueError: too wide"
    assert entries[0].folder.result["error"] == entries[0].note
    assert entries[0].folder.state == "failed"


def test_a_row_that_is_killed_before_it_can_write_is_marked(tmp_path):
    killed = entry(tmp_path, "a", "write('running'); os.kill(os.getpid(), signal.SIGKILL)")
    run([killed])
    assert (killed.state, killed.note, killed.folder.state) == ("failed", "ended by SIGKILL", "failed")


def test_a_row_that_crashes_before_it_has_a_folder_leaves_none(tmp_path):
    crashed = entry(tmp_path, "a", "raise SystemExit('no such thing')")
    run([crashed])
    assert (crashed.state, crashed.note) == ("failed", "exit 1: no such thing")
    assert not (tmp_path / "a").exists()


def test_a_row_that_ends_well_without_a_result_is_failed(tmp_path):
    silent = entry(tmp_path, "a", "pass")
    run([silent])
    assert silent.state == "failed"


def test_a_row_that_was_asked_to_end_is_interrupted_and_resumes_the_next_time(tmp_path):
    stopped = entry(tmp_path, "a", "done = folder.state == 'running'; write('done' if done else 'running'); sys.exit(0 if done else 143)")
    run([stopped])
    assert (stopped.state, stopped.note) == ("interrupted", "exit 143: it was asked to end")
    run([stopped])
    assert (stopped.state, stopped.note) == ("done", "")


def test_a_failed_row_is_tried_again(tmp_path):
    failed = entry(tmp_path, "a")
    failed.folder.write_result("failed", {}, {}, error="no memory\nat all")
    assert (failed.look(), failed.note) == ("failed", "no memory")
    run([failed])
    assert (failed.state, failed.note) == ("done", "")


def test_extra_evaluations_follow_the_training_and_alone_where_it_is_done(tmp_path):
    row = entry(tmp_path, "a", DONE, "assert (folder.path.parents[1] / 'result.json').exists(); write('done')")
    run([row])
    assert row.state == "done"
    row.stages[1].result.unlink()
    row.stages[0].command[-1] = "raise SystemExit(1)"
    assert row.look() == "interrupted"
    run([row])
    assert row.state == "done"


def test_a_failed_evaluation_fails_the_row_and_leaves_the_training(tmp_path):
    row = entry(tmp_path, "a", DONE, "raise SystemExit('no images')")
    run([row])
    assert (row.state, row.note) == ("failed", "exit 1: no images")
    assert row.folder.state == "done"
    assert row.stages[1].folder.result == {"state": "failed", "metrics": {}, "cards": {}, "error": "exit 1: no images"}
    again = entry(tmp_path, "a", "raise SystemExit(1)", DONE)
    assert (again.look(), again.note) == ("failed", "exit 1: no images")
    run([again])
    assert (again.state, again.note) == ("done", "")


def test_an_evaluation_that_fails_when_it_is_repeated_retains_its_earlier_numbers(tmp_path):
    row = entry(tmp_path, "a", DONE, "raise SystemExit('no memory')")
    row.folder.write_result("done", {"perf/seconds": 1.0}, {})
    row.stages[1].folder.write_result("failed", {"val/psnr": 20.0}, {}, skipped={"rfid": {"reason": "absent", "weights": None}})
    run([row])
    expected = {
        "state": "failed",
        "metrics": {"val/psnr": 20.0},
        "cards": {},
        "skipped": {"rfid": {"reason": "absent", "weights": None}},
        "error": "exit 1: no memory",
    }
    assert row.stages[1].folder.result == expected


def test_rows_that_are_the_same_run_run_once(tmp_path):
    first, second = (
        entry(tmp_path, "a", "assert folder.state == 'absent'; write('done')"),
        entry(tmp_path, "a", "raise SystemExit(1)", seed=1),
    )
    run([first, second])
    sync_duplicates([first, second])
    assert [first.state, second.state, second.seconds] == ["done", "done", 2.5]


def test_a_row_that_cannot_run_here_is_left_out(tmp_path):
    absent = Entry(Job(Row(name="a"), 0, [], None, "weights absent"))
    absent.look()
    run([absent, entry(tmp_path, "b")])
    assert absent.state == "weights absent"


def test_two_jobs_run_side_by_side_with_half_the_cores_each(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    meet = """
folder.path.mkdir()
print(os.environ['OMP_NUM_THREADS'])
while len(list(folder.path.parent.glob('?'))) < 2:
    time.sleep(.01)
write('done')
"""
    entries = [entry(tmp_path, "a", meet), entry(tmp_path, "b", meet)]
    seen = run(entries, slots=2)
    assert ["running", "running"] in seen
    assert [each.state for each in entries] == ["done", "done"]
    cores = len(os.sched_getaffinity(0))
    assert {last_line(each.log) for each in entries} == {str(max(1, cores // 2))}


def test_a_row_that_another_process_holds_is_waited_for(tmp_path):
    held = entry(tmp_path, "a", "raise SystemExit('started twice')")
    program = f"""
import sys
from experiments.runs.folder import RunFolder
folder = RunFolder({str(tmp_path / "a")!r})
with folder.lock():
    print(flush=True)
    sys.stdin.readline()
    folder.write_result('done', {{}}, {{}})
"""
    other = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    other.stdout.readline()
    assert held.look() == "running"
    looks = []

    def changed():
        looks.append(held.state)
        if len(looks) == 2:
            other.stdin.write("\n")
            other.stdin.flush()

    Runner([held], LocalLauncher(1, []), changed).run()
    assert held.state == "done"
    assert looks[:2] == ["running", "running"]
    assert other.wait() == 0


def test_a_row_that_another_process_took_first_is_waited_for(tmp_path):
    """The other one takes the folder while ours is starting, and ours reports that and exits."""
    other = f"""
import time
from experiments.runs.folder import RunFolder
folder = RunFolder({str(tmp_path / "a")!r})
with folder.lock():
    folder.write_result('running', {{}}, {{}})
    print(flush=True)
    time.sleep(1)
    folder.write_result('done', {{'perf/seconds': 7.0}}, {{}})
"""
    program = f"""
import subprocess
assert folder.state == 'absent', 'started twice'
other = subprocess.Popen([sys.executable, '-c', {other!r}], stdout=subprocess.PIPE, text=True, start_new_session=True)
other.stdout.readline()
with folder.lock(): pass
"""
    row = entry(tmp_path, "a", program)
    states = [look for (look,) in run([row])]
    assert "in use by" in row.log.read_text()
    assert set(states) == {"running", "done"}
    assert (row.state, row.note, row.seconds) == ("done", "", 7.0)


def test_each_slot_sees_its_part_of_the_gpus(monkeypatch):
    gpus = ["4", "5", "6", "7", "8"]
    assert [LocalLauncher(2, gpus).share(slot)["CUDA_VISIBLE_DEVICES"] for slot in (0, 1)] == ["4,5", "6,7"]
    assert [LocalLauncher(4, gpus[:2]).share(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(4)] == ["4", "5", "4", "5"]
    assert "CUDA_VISIBLE_DEVICES" not in LocalLauncher(1, gpus).share(0)
    assert "CUDA_VISIBLE_DEVICES" not in LocalLauncher(3, ["0"]).share(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert "OMP_NUM_THREADS" not in LocalLauncher(2, []).share(0)


SWEEP = """
    import runpy, sys
    from pathlib import Path
    from experiments.sweeps.runner import Runner
    from experiments.sweeps.launchers import LocalLauncher
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_end_reaches_what_runs_and_nothing_more_is_started(number, tmp_path):
    program = (
        "def leave(number, frame): Path('asked').write_text(str(number)); sys.exit(128 + number)\n"
        "signal.signal(2, leave); signal.signal(15, leave); write('running'); Path('up').touch(); time.sleep(60)"
    )
    sweep = started(tmp_path, program)
    sweep.send_signal(number)
    states = json.loads(sweep.communicate(timeout=20)[0])
    assert sweep.returncode == 128 + number
    assert (tmp_path / "asked").read_text() == str(int(number))
    assert states == ["interrupted", "not run"]
    assert RunFolder(tmp_path / "a").state == "running"


def test_a_second_ctrl_c_ends_everything_at_once(tmp_path):
    program = (
        "import subprocess; child = subprocess.Popen(['sleep', '60']); Path('child').write_text(str(child.pid))\n"
        "signal.signal(2, signal.SIG_IGN); write('running'); Path('up').touch(); time.sleep(60)"
    )
    sweep = started(tmp_path, program)
    sweep.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert sweep.poll() is None
    sweep.send_signal(signal.SIGINT)
    sweep.communicate(timeout=20)
    assert sweep.returncode == 130
    child = Path(f"/proc/{(tmp_path / 'child').read_text()}/stat")
    assert not child.exists() or child.read_text().split()[2] == "Z"


def started(folder: Path, program: str) -> subprocess.Popen[str]:
    """A process that runs two entries, the first of which is up."""
    code = f"""
        entry = runpy.run_path({made_entries.__file__!r})["entry"]
        entries = [entry(Path({str(folder)!r}), name, {program!r}) for name in "ab"]
        status = Runner(entries, LocalLauncher(1, []), lambda: None).run()
        import json; sys.stdout.write(json.dumps([entry.state for entry in entries])); sys.exit(status)
    """
    file = folder / "sweep.py"
    file.write_text(textwrap.dedent(SWEEP) + textwrap.dedent(code))
    process = subprocess.Popen(
        [sys.executable, str(file)], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    while not (folder / "up").exists() and process.poll() is None:
        time.sleep(0.05)
    return process
