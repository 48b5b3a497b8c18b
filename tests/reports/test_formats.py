"""The layouts that are files: content, special characters and wide tables."""

import csv
import io

import pytest

from experiments.config.packages import CONF
from experiments.reports.formats import comma_separated, latex, markdown
from experiments.reports.report import make_report
from experiments.tables.reading import read_sweep
from experiments.tables.sweep_file import Correction
from tests.reports.made_runs import replace, share_compositions, write_run

SWEEP = replace(read_sweep("gsq/table01_codebook", CONF), notes=["A note."])
ROWS = {row.name: row for row in SWEEP.rows}
UNIFORM, SPHERE = ROWS["uniform"], ROWS["sphere_l2"]
TWO = replace(SWEEP, rows=[UNIFORM, SPHERE], claims=[])
BITS = {"val/bits_per_token": 8.0}


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    share_compositions(monkeypatch)


def report(sweep=TWO):
    return make_report(sweep, "mini", 10, [])


def test_csv_parses_back_to_the_numbers():
    write_run(SWEEP, UNIFORM, {"val/codebook_usage": 0.05, "val/psnr": 20.123456789, **BITS}, seed=0)
    write_run(SWEEP, UNIFORM, {"val/codebook_usage": 0.07, "val/psnr": 20.123456789, **BITS}, seed=1)
    odd = replace(UNIFORM, label=['a "quoted", odd', "none"], corrections={"val/rfid": Correction(cell="11.4", why="it is")})
    first, second = csv.DictReader(io.StringIO(comma_separated(report(replace(TWO, rows=[odd, SPHERE])))))
    assert (first["initialization"], first["name"], first["state"]) == ('a "quoted", odd', "uniform", "done: seeds 0, 1")
    assert (first["rFID published"], first["rFID corrected"], first["rFID measured"]) == ("11.37", "11.4", "")
    assert second["rFID corrected"] == "5.375"
    assert float(first["usage (%) measured"]) == pytest.approx(6.0)
    assert float(first["usage (%) spread"]) == pytest.approx(2**0.5)
    assert first["usage (%) seeds"] == "2"
    assert float(first["usage (%) difference (mini - paper)"]) == pytest.approx(6.0 - 3.38)
    assert first["PSNR (dB) measured"] == "20.12345679"
    assert second["PSNR (dB) published"] == "23.59"


def test_latex_escapes_its_special_signs():
    odd = replace(UNIFORM, label=["50 % & $x_1$ #{~^\\}", "<none>"], corrections={"val/rfid": Correction(cell="11.4", why="it is")})
    text = latex(report(replace(TWO, rows=[odd, SPHERE])))
    assert r"50 \% \& \$x\_1\$ \#\{\textasciitilde{}\textasciicircum{}\textbackslash{}\} & $<$none$>$ & 11.37$^\dagger$ & 84" in text
    assert r"usage (\%)" in text
    tabulars = text.split(r"\begin{tabular}")[1:]
    assert len(tabulars) == 1
    rows = [line for line in tabulars[0].splitlines() if line.endswith(r"\\")]
    assert len({line.replace(r"\&", "").count("&") for line in rows}) == 1
    write_run(SWEEP, SPHERE, {"val/rfid": 9.0, **BITS})
    text = latex(report())
    assert r" &  & \multicolumn{3}{c}{rFID} & \multicolumn{1}{c}{IS} & " in text
    assert r"\cmidrule(lr){3-5}\cmidrule(lr){6-6}" in text


def test_latex_is_one_table_with_every_cell_and_its_remarks():
    for seed in range(2):
        write_run(SWEEP, UNIFORM, {column.key: 0.123456 + seed for column in SWEEP.columns} | BITS, seed)
    text = latex(report())
    assert text.count(r"\begin{tabular}") == text.count(r"\begin{table}") == 1
    assert text.count("uniform & none &") == 1
    assert all(column.label in text for column in SWEEP.columns)
    assert " & difference (mini $-$ paper)" in text
    assert " & $-$10.747 & " in text  # 0.623456 - 11.37, with the decimals of the measured 0.623
    assert text.index("Difference: measured") > text.index(r"\end{table}")


def test_latex_reads_no_cell_as_an_argument_of_the_row_before():
    assert "\n{[}8, 8] & none & " in latex(report(replace(TWO, rows=[SPHERE, replace(UNIFORM, label=["[8, 8]", "none"])])))


def test_markdown_has_a_cell_in_its_column():
    odd = replace(UNIFORM, label=["16x1*", "a|b"])
    assert r"| 16x1\* | a\|b | 11.37 |" in markdown(report(replace(TWO, rows=[odd])))
