"""Reports: the printed table as printed, measured numbers beside it, what is compared and what is not, in every format."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from experiments.config.compose import compose
from experiments.config.packages import CONF, ROOT
from experiments.report import run
from experiments.reports.formats import latex, markdown
from experiments.reports.report import make_report
from experiments.reports.terminal import show_report
from experiments.tables.reading import read_sweep
from experiments.tables.sweep_file import Correction
from tests.reports.made_runs import replace, share_compositions, write_run
from tokenizer.files import short_hash
from tokenizer.weights import FILES

SWEEP = replace(read_sweep("gsq/table01_codebook", CONF), notes=["A note."])
ROWS = {row.name: row for row in SWEEP.rows}
UNIFORM, SPHERE = ROWS["uniform"], ROWS["sphere_l2"]
TWO = replace(SWEEP, rows=[UNIFORM, SPHERE], claims=[])
BITS = {"val/bits_per_token": 8.0}

PRINTED = """\
| initialization | normalization | rFID | IS | LPIPS | PSNR (dB) | SSIM | usage (%) | PPL | bits/token | run |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|
| uniform | none | 11.37 | 84 | 0.12 | 22.3 | 0.64 | 3.38 | 237 |  | uniform: not run |
| uniform | l2 | 5.343 | 113 | 0.10 | 23.7 | 0.71 | 100 | 8077 |  | uniform_l2: not run |
| sphere | none | 5.343 | 113 | 0.12 | 23.9 | 0.72 | 100 | 7408 |  | sphere: not run |
| sphere | l1 | 8.312 | 94 | 0.12 | 22.1 | 0.66 | 33.9 | 566 |  | sphere_l1: not run |
| sphere | l2 | 5.375 | 113 | 0.11 | 23.59 | 0.71 | 100 | 8062 |  | sphere_l2: not run |
"""


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    share_compositions(monkeypatch)


def report(sweep=TWO, words=(), scale="mini"):
    return make_report(sweep, scale, 10, list(words))


def line_of(made, name):
    """The cells of a row in Markdown by their heads."""
    heads, _, *rows = [line for line in markdown(made).splitlines() if line.startswith("|")][: 2 + len(made.rows)]
    found = next(line for line in rows if f"| {name}: " in line)
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in (heads, found)]
    return dict(zip(*split, strict=True))


def on_terminal(made, width=140):
    text = io.StringIO()
    show_report(made, Console(file=text, width=width))
    return text.getvalue()


def test_without_runs_the_papers_table_is_printed_as_it_is_printed():
    text = markdown(report(SWEEP))
    assert PRINTED in text
    assert "Published cells as printed. Nothing is measured at scale=mini." in text
    assert text.count("| holds | undecidable: ") == len(SWEEP.claims)


def test_a_misprint_is_printed_marked_and_explained():
    wrong = replace(UNIFORM, published=["0.08", *UNIFORM.published[1:]], corrections={"val/rfid": Correction(cell="0.83", why="README")})
    made = report(replace(TWO, rows=[wrong, SPHERE]))
    assert line_of(made, "uniform")["rFID"] == "0.08†"
    assert "† uniform, rFID: printed 0.08, meant 0.83 (README)" in made.remarks
    write_run(SWEEP, UNIFORM, {"val/rfid": 1.0})
    assert line_of(report(replace(TWO, rows=[wrong, SPHERE])), "uniform")["rFID difference (mini - paper)"] == "+0.17"


def test_measured_numbers_are_beside_printed_ones_in_their_unit():
    for seed, (usage, psnr) in enumerate([(0.05, 20.0), (0.07, 21.0), (0.09, 25.0)]):
        write_run(SWEEP, UNIFORM, {"val/codebook_usage": usage, "val/psnr": psnr, "val/ssim": 0.5, **BITS}, seed)
    made = report()
    cells = line_of(made, "uniform")
    assert cells["usage (%) published"] == "3.38"
    assert cells["usage (%) measured"] == "7.00 ± 2.00 (3)"
    assert cells["usage (%) difference (mini - paper)"] == "+3.62"
    assert cells["PSNR (dB) measured"] == "22.0 ± 2.6 (3)"  # the square root of 7 is 2.65
    assert cells["PSNR (dB) difference (mini - paper)"] == "-0.3"
    assert cells["bits/token measured"] == "8 (3)"
    assert cells["run"] == "uniform: done: seeds 0, 1, 2"
    assert "rFID measured" not in cells
    assert line_of(made, "sphere_l2")["usage (%) measured"] == ""
    assert "mini and paper are not the same setting" in made.legend


def test_a_small_spread_is_not_printed_as_zero():
    for seed, psnr in enumerate([20.00, 20.02, 20.04]):
        write_run(SWEEP, UNIFORM, {"val/psnr": psnr, **BITS}, seed)
    assert line_of(report(), "uniform")["PSNR (dB) measured"] == "20.02 ± 0.02 (3)"


def test_a_measured_number_shows_at_least_three_digits():
    write_run(SWEEP, UNIFORM, {"val/lpips": 0.012345, "val/perplexity": 54.321, "val/inception_score": 1234.56, "val/ssim": 0.0, **BITS})
    cells = line_of(report(), "uniform")
    assert cells["LPIPS measured"] == "0.0123"
    assert cells["PPL measured"] == "54.3"
    assert cells["IS measured"] == "1235"
    assert cells["SSIM measured"] == "0.00"


def test_the_head_of_a_difference_at_the_papers_scale_is_plain():
    assert report().difference_head == "difference (mini - paper)"
    assert report(scale="paper").difference_head == "difference"


def test_the_best_is_marked_where_cards_and_rates_agree():
    write_run(SWEEP, UNIFORM, {"val/psnr": 20.0, "val/rfid": 9.0, "val/perplexity": 7.0, **BITS})
    write_run(SWEEP, SPHERE, {"val/psnr": 21.0, "val/rfid": 5.0, "val/perplexity": 7.0, **BITS})
    cells, other = line_of(report(), "sphere_l2"), line_of(report(), "uniform")
    assert (cells["PSNR (dB) measured"], cells["rFID measured"]) == ("**21.00**", "**5.000**")
    assert (other["PSNR (dB) measured"], other["rFID measured"]) == ("20.0", "9.00")
    assert (cells["PPL measured"], other["PPL measured"]) == ("**7**", "**7**")
    assert "5.000*" in on_terminal(report())
    assert r"\textbf{5.000}" in latex(report())


def test_nothing_is_ranked_where_cards_differ():
    write_run(SWEEP, UNIFORM, {"val/psnr": 20.0, **BITS}, card={"n": 500})
    write_run(SWEEP, SPHERE, {"val/psnr": 21.0, **BITS})
    made = report()
    assert "**" not in markdown(made)
    assert "No best is marked under PSNR: cards differ in n" in made.remarks
    assert any("n differs: 500 (uniform); 516 (sphere_l2)" in line for line in made.basis)


def test_nothing_is_ranked_where_bits_per_token_differ():
    write_run(SWEEP, UNIFORM, {"val/psnr": 20.0, "val/bits_per_token": 13.0})
    write_run(SWEEP, SPHERE, {"val/psnr": 21.0, "val/bits_per_token": 104.0})
    made = report()
    assert "**" not in markdown(made)
    assert "No best is marked under PSNR: bits per token differ, 13 to 104" in made.remarks


def test_cards_are_listed_once_and_losses_and_code_by_row_where_they_differ():
    write_run(SWEEP, UNIFORM, {"val/psnr": 20.0, **BITS}, card={"code_version": "old", "losses": "reconstruction 1; lpips"})
    write_run(SWEEP, SPHERE, {"val/psnr": 21.0, **BITS}, seed=3)
    basis = report().basis
    assert basis[0] == "Every number: image_size 32, n 516, reference photos: astronaut, china, transform squares, subject ema"
    assert "Losses: reconstruction 1; lpips (uniform); reconstruction 1; no perceptual loss (sphere_l2)" in basis
    assert "Code: old (uniform); abc (sphere_l2)" in basis
    assert "Seeds: 0, 3" in basis


def test_what_the_scale_changes_is_listed():
    sweep = replace(TWO, mini={"updates": 77}, rows=[replace(UNIFORM, mini={"accumulate": 2})])
    first, second = report(sweep).basis
    assert first.startswith("scale=mini sets data=photos, discriminator=none, ")
    assert ", updates=77" in first
    assert "loss.weights.perceptual=0.0" in first
    assert second == "scale=mini, row uniform: accumulate=2"
    assert report(replace(TWO, mini={}), scale="paper").basis == []


def test_failed_rows_and_absent_metrics_have_reasons():
    write_run(SWEEP, UNIFORM, {}, state="failed", error="loss is nan\nat update 3")
    write_run(SWEEP, SPHERE, {"val/psnr": 20.0, **BITS}, skipped={"rfid": {"reason": "no file", "weights": "inception"}})
    made = report()
    assert line_of(made, "uniform")["run"] == "uniform: failed"
    assert line_of(made, "uniform")["PSNR (dB) measured"] == ""
    assert "uniform, seed 0, failed: loss is nan at update 3 (runs/gsq/vae_f8_raw/uniform-0)" in made.remarks
    assert f"Not measured: rFID. weights absent: {FILES['inception'].purpose} needs {FILES['inception'].filename}" in made.remarks


def test_a_failed_evaluation_is_in_the_run_column_and_in_the_notes():
    folder = write_run(SWEEP, UNIFORM, {"val/psnr": 20.0, **BITS})
    twice = {"image_size_times": 2}
    file = folder.path / "evaluations" / f"evaluation-{short_hash(twice)}" / "result.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"state": "failed", "error": "out of\\nmemory"}')
    made = report(replace(TWO, evaluations={"twice": twice}))
    assert line_of(made, "uniform")["run"] == "uniform: done, evaluation twice failed"
    assert "uniform, seed 0, evaluation twice, failed: out of memory (runs/gsq/vae_f8_raw/uniform-0)" in made.remarks
    assert line_of(made, "uniform")["PSNR (dB) measured"] == "20.0"


def test_claims_are_decided_on_cells_and_on_runs():
    write_run(SWEEP, UNIFORM, {"val/codebook_usage": 0.05, **BITS})
    write_run(SWEEP, SPHERE, {"val/codebook_usage": 0.9, **BITS}, skipped={"rfid": {"reason": "no file", "weights": "inception"}})
    (table,) = report(replace(TWO, claims=[SWEEP.claims[0], SWEEP.claims[-1]])).tables
    (_, *usage), (_, *rfid) = table.rows
    assert usage == ["holds", "holds", "uniform usage 5 %, sphere_l2 usage 90 %"]
    why = "val/rfid of row uniform is missing: not in its results; val/rfid of row sphere_l2 is missing: weights absent"
    assert rfid == ["holds", f"undecidable: {why}", ""]


def test_a_claim_for_other_scales_is_not_decided():
    elsewhere = [replace(SWEEP.claims[0], scales=["paper"])]
    (table,) = report(replace(TWO, claims=elsewhere)).tables
    assert table.rows[0][1:3] == ["holds", "undecidable: not meant for scale mini"]


def test_quoted_rows_print_their_cells_and_notes_follow():
    quoted = replace(UNIFORM, name="theirs", quoted=True, note="Of another paper.", overrides={})
    write_run(SWEEP, UNIFORM, {"val/rfid": 9.0, **BITS})
    made = report(replace(TWO, rows=[UNIFORM, quoted]))
    cells = line_of(made, "theirs")
    assert (cells["rFID published"], cells["rFID measured"], cells["run"]) == ("11.37", "", "theirs: quoted")
    assert made.remarks[-2:] == ["theirs: Of another paper.", "A note."]


def test_the_terminal_folds_what_is_too_wide_and_loses_nothing():
    for row in (UNIFORM, SPHERE):
        for seed in range(2):
            write_run(SWEEP, row, {column.key: 0.123456 for column in SWEEP.columns} | BITS, seed)
    text = on_terminal(report())
    assert max(map(len, text.splitlines())) <= 140
    assert "…" not in text
    assert text.count("initialization") > 1
    for cell in ("11.37", "0.123 (2)", "12.35 (2)", "uniform: done: seeds 0, 1"):
        assert cell in text
    assert all(column.label in text for column in SWEEP.columns)


@pytest.mark.parametrize("name", ["terminal", "markdown", "csv", "latex"])
def test_each_format_is_printed_and_all_files_are_written(name, capsys):
    assert run(compose("report", ["table=gsq/table01", "seeds=10", f"format={name}", "runs_folder=elsewhere"])) == 0
    folder = Path("elsewhere/reports/gsq/table01_codebook/mini")
    assert sorted(file.name for file in folder.iterdir()) == ["report.csv", "report.md", "report.tex"]
    printed = capsys.readouterr().out
    file = {"markdown": "report.md", "csv": "report.csv", "latex": "report.tex"}.get(name)
    assert "11.37" in printed
    assert file is None or printed == (folder / file).read_text()


def test_a_report_is_written_where_asked():
    run(compose("report", ["table=gsq/table01", "format=csv", "output=here"]))
    assert (Path("here") / "report.md").is_file()


def test_printed_cells_are_reported_without_torch_and_without_matplotlib():
    code = """
import sys
from experiments.config.compose import compose
from experiments.report import run
run(compose("report", ["table=gsq/table01", "seeds=10", "format=markdown", f"output={sys.argv[1]}", "runs_folder=nowhere"]))
sys.stderr.write(" ".join(sorted({"torch", "matplotlib", "scipy", "lightning"} & set(sys.modules))))
"""
    done = subprocess.run([sys.executable, "-c", code, "out"], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, "")
    assert PRINTED in done.stdout
