"""Stages that several rows of a sweep have: each runs once, over small programs instead of trainings."""

from pathlib import Path

from experiments.sweeps.display import Display
from experiments.sweeps.entries import Entry, MeasuringStage
from experiments.sweeps.launchers import LocalLauncher
from experiments.sweeps.runner import Runner
from tests.sweeps.made_entries import DONE, entry, run


def shared(folder: Path, *programs: str, training: str = "print('trained', flush=True); time.sleep(.3); write('done')") -> list[Entry]:
    """Rows of one run that differ in their second stage."""
    rows = []
    for number, program in enumerate(programs):
        row = entry(folder, "a", training, program, seed=number)
        output = folder / "a" / "evaluations" / f"probe{number}"
        command = [*row.stages[1].command[:-1], row.stages[1].command[-1].replace("evaluations/twice", f"evaluations/{output.name}")]
        row.stages[1] = MeasuringStage(command, output / "result.json", output.name)
        rows.append(row)
    return rows


def logs(rows: list[Entry]) -> str:
    return "".join(row.log.read_text() for row in rows if row.log.exists())


def test_a_stage_that_several_rows_have_runs_once_also_where_they_could_run_at_the_same_time(tmp_path):
    rows = shared(tmp_path, "print('probed 0'); write('done')", "print('probed 1'); write('done')")
    seen = run(rows, slots=2)
    assert [row.state for row in rows] == ["done", "done"]
    lines = logs(rows).splitlines()
    assert [lines.count(line) for line in ("trained", "probed 0", "probed 1")] == [1, 1, 1]
    assert ["running", "running"] in seen  # the second one is seen to wait for the folder of its run


def test_other_rows_run_while_one_waits_for_a_shared_stage(tmp_path):
    rows = [*shared(tmp_path, DONE, DONE), entry(tmp_path, "b", "print('b'); write('done')")]
    started = []
    launcher = LocalLauncher(2, [])
    start = launcher.start
    launcher.start = lambda row, slot: started.append(row.job.name) or start(row, slot)
    Runner(rows, launcher, lambda: None).run()
    assert [row.state for row in rows] == ["done"] * 3
    assert started == ["a", "b", "a-seed1"]


def test_a_shared_stage_that_fails_fails_all_its_rows_and_is_not_tried_for_each(tmp_path):
    rows = shared(tmp_path, DONE, DONE, training="print('trained', flush=True); raise SystemExit('too wide')")
    run(rows, slots=2)
    assert [(row.state, row.note) for row in rows] == [("failed", "exit 1: too wide")] * 2
    assert rows[1].log == rows[0].log
    assert logs(rows[:1]).splitlines().count("trained") == 1


def test_a_row_whose_own_stage_fails_leaves_the_others(tmp_path):
    rows = shared(tmp_path, "raise SystemExit('no samples')", DONE)
    run(rows)
    assert [(row.description, row.note) for row in rows] == [("failed (probe0)", "exit 1: no samples"), ("done", "")]
    assert logs(rows).splitlines().count("trained") == 1


def test_a_display_without_a_terminal_names_the_stage_that_runs(tmp_path, capsys):
    rows = shared(tmp_path, "time.sleep(.5); write('done')")
    with Display(rows) as display:
        Runner(rows, LocalLauncher(1, []), display.update).run()
    assert capsys.readouterr().out.splitlines() == ["not run: a", "a: running (training)", "a: running (probe0)", "a: done"]
