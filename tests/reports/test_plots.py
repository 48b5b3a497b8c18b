"""Figures of tables: their settings, what is drawn, and the law of GSQ's figure 4."""

import dataclasses

import pytest
from pydantic import ValidationError

from experiments.config.packages import CONF
from experiments.config.validation import config_error
from experiments.reports.law import Law, fit, points_of
from experiments.reports.measured import published_values
from experiments.reports.plots import curve, draw, points
from experiments.reports.report import make_report
from experiments.tables.columns import Column
from experiments.tables.fields import number
from experiments.tables.plot import Plot
from experiments.tables.reading import read_sweep
from experiments.tables.sweep_file import Row, SweepFile
from tests.reports.made_runs import replace, share_compositions, write_run

TABLE = read_sweep("gsq/table01_codebook", CONF)
COLUMNS = [Column(key="val/rfid", label="rFID", better="lower"), Column(key="model/parameters", label="parameters", unit="M")]
# Figure 4 as printed: rFID by latent width, for these codebook sizes.
SIZES = (8192, 16384, 65536, 262144, 524288)
PRINTED = {
    8: (0.488, 0.443, 0.389, 0.365, 0.355),
    16: (0.586, 0.519, 0.449, 0.389, 0.357),
    32: (0.621, 0.555, 0.486, 0.426, 0.397),
    64: (0.637, 0.586, 0.512, 0.475, 0.453),
}
PAPER = {"B": 411.63, "a": 2.8375, "C": 0.1601, "b": 0.1956}


def figure(plot, rows=None):
    """A figure of V and D over the rows of a real experiment."""
    rows = rows or [
        Row(
            name=f"d{width}_v{size}",
            label=[str(size), str(width)],
            overrides={"latent_dim": width, "codebook_size": size},
            published=[str(value), "75"],
        )
        for width, values in PRINTED.items()
        for size, value in zip(SIZES, values, strict=True)
    ]
    return replace(TABLE, labels=["V", "D"], columns=COLUMNS, rows=rows, claims=[], plot=Plot.model_validate(plot), mini={}, gpu={})


LINES = figure({"kind": "lines", "x": "V", "series": "D", "y": "val/rfid"})
SCATTER = figure({"kind": "scatter", "x": "model/parameters", "y": "val/rfid"})
CURVES = figure({"kind": "curves", "y": "val/rfid"})
LAW = figure({"kind": "law", "x": "V", "series": "D", "y": "val/rfid", "law": PAPER})


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    share_compositions(monkeypatch)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("11.37", 11.37),
        ("8k", 8192),
        ("256k", 262144),
        ("100,000", 100_000),
        ("3.38 %", 3.38),
        ("2^36", None),
        ("inf", None),
        (None, None),
        ("", None),
    ],
)
def test_the_number_that_a_cell_shows(cell, value):
    assert number(cell) == value


@pytest.mark.parametrize(
    ("plot", "key", "nearest"),
    [
        ({"kind": "line", "y": "val/rfid"}, "plot.kind", "lines"),
        ({"kind": "curves"}, "plot.y", ""),
        ({"kind": "curves", "y": "val/fid"}, "plot.y", "val/rfid"),
        ({"kind": "curves", "y": "val/rfid", "x": "V"}, "plot.x", ""),
        ({"kind": "scatter", "y": "val/rfid"}, "plot.x", ""),
        ({"kind": "lines", "x": "size", "series": "D", "y": "val/rfid"}, "plot.x", ""),
        ({"kind": "lines", "x": "V", "series": "D", "y": "val/rfid", "law": PAPER}, "plot.law", ""),
        ({"kind": "law", "x": "V", "series": "D", "y": "val/rfid", "law": {"B": 1.0}}, "plot.law.a", ""),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_refused_when_the_file_is_read(plot, key, nearest):
    content = {**LAW.model_dump(), "plot": plot}
    with pytest.raises(ValidationError) as caught:
        SweepFile.model_validate(content)
    error = config_error(caught.value, SweepFile)
    assert (error.key, error.nearest) == (key, nearest)


def test_a_label_that_is_no_number_has_no_place_on_an_axis():
    def with_odd_row(**more):
        odd = Row(name="odd", label=["big", "8"], **more)
        return SweepFile.model_validate({**LINES.model_dump(), "rows": [odd]})

    with pytest.raises(ValidationError, match=r"row 1 \(odd\): label=big: expected a number for V"):
        with_odd_row()
    assert with_odd_row(quoted=True).plot == LINES.plot


def test_the_law_of_the_printed_points_is_the_published_one():
    printed = points_of(LAW, published_values(LAW))
    assert len(printed) == 20
    assert (8192, 64, 0.637) in printed
    law = fit(printed)
    assert vars(law) == pytest.approx(PAPER, rel=0.005)
    errors = law.errors(printed)
    assert (sum(errors) / 20, max(errors)) == (pytest.approx(0.028, abs=5e-4), pytest.approx(0.075, abs=5e-4))


def test_the_law_finds_the_coefficients_that_points_were_made_with():
    made = Law(300.0, 2.5, 0.2, 0.3)
    # by hand: log2(4096) = 12, 12^2.5 = 498.83, 300 / 498.83 = 0.6014; 0.2 * 8^0.3 = 0.3732
    assert made(4096, 8) == pytest.approx(0.9746, abs=1e-4)
    law = fit([(size, width, made(size, width)) for size in (256, 4096, 65536) for width in (4, 16, 64)])
    assert vars(law) == pytest.approx(vars(made), rel=1e-3)


def test_a_law_of_too_few_points_is_refused():
    with pytest.raises(ValueError, match="4 points: expected at least 5"):
        fit([(2.0, 8, 1.0)] * 4)


def test_a_report_gives_the_coefficients_beside_the_published_ones():
    lines = make_report(LAW, "mini", 1, []).law_lines
    assert lines[0] == "rFID = B / log2(V)^a + C * D^b"
    assert lines[1].startswith(
        "published law, published points: B 411.63, a 2.8375, C 0.1601, b 0.1956; relative error 2.8% in the mean, 7.5%"
    )
    assert lines[2].startswith("fitted to published points: B 41")
    assert len(lines) == 3


def test_measured_points_have_a_law_of_their_own_as_soon_as_there_are_five():
    law, sweep = Law(300.0, 2.5, 0.2, 0.3), figure(LAW.plot.model_dump(), LAW.rows[:5])
    for count, row in enumerate(sweep.rows, 1):
        size, width = (float(cell) for cell in row.label)
        write_run(sweep, row, {"val/rfid": law(size, width)})
        if count >= 4:
            assert ("fitted to measured points" in make_report(sweep, "mini", 1, []).laws) == (count == 5)


def test_lines_are_of_one_series_each_in_the_order_of_x():
    shuffled = figure(LINES.plot.model_dump(), LINES.rows[::-1])
    found = points(make_report(shuffled, "mini", 1, []), "published")
    assert list(found) == ["D 64", "D 32", "D 16", "D 8"]
    assert found["D 8"] == list(zip(map(float, SIZES), PRINTED[8], strict=True))
    assert points(make_report(shuffled, "mini", 1, []), "measured") == {}


def test_a_curve_is_read_from_the_lines_that_have_the_metric(tmp_path):
    (tmp_path / "metrics.csv").write_text("updates,train/loss,val/rfid\n50,0.3,\n100,0.2,7.5\n150,0.1,\n200,0.1,5\n")
    assert curve(tmp_path / "metrics.csv", "val/rfid") == [(100, 7.5), (200, 5)]
    assert curve(tmp_path / "metrics.csv", "val/psnr") == []
    assert curve(tmp_path / "none.csv", "val/rfid") == []


@pytest.mark.parametrize("sweep", [LINES, SCATTER, CURVES, LAW], ids=lambda sweep: sweep.plot.kind)
@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_a_figure_shows_what_was_published_and_what_was_measured(sweep, scale, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: _remember(figure, drawn, _[0]))
    few = replace(sweep, rows=sweep.rows[:2])
    draw(make_report(few, scale, 1, []), tmp_path / "plot.png")
    before = dict(drawn)
    assert (tmp_path / "plot.png").is_file()
    for row, rfid in zip(few.rows, (9.0, 7.0), strict=True):
        folder = write_run(few, row, {"val/rfid": rfid, "model/parameters": 2e6})
        (folder.path / "metrics.csv").write_text(f"updates,val/rfid\n10,{rfid + 1}\n20,{rfid}\n")
    report = make_report(few, "mini", 1, [])
    draw(dataclasses.replace(report, scale=scale), tmp_path / "plot.png")
    assert before["panels"] == 1
    assert drawn["panels"] == (1 if scale == "paper" else 2)
    assert {0.488, 0.443} <= before["heights"]
    assert 9.0 not in before["heights"]
    assert {0.488, 0.443, 9.0, 7.0} <= drawn["heights"]
    if sweep is not CURVES:
        assert before["filling"] == {"white"}
        assert "white" in drawn["filling"] != {"white"}


def _remember(figure, drawn, path):
    drawn["panels"] = len(figure.axes)
    drawn["heights"] = {float(value) for axes in figure.axes for line in axes.lines for value in line.get_ydata()}
    drawn["filling"] = {line.get_markerfacecolor() for axes in figure.axes for line in axes.lines if line.get_marker() == "o"}
    path.write_text("drawn")


def test_a_figure_without_any_number_is_drawn(tmp_path):
    empty = figure(CURVES.plot.model_dump(), [Row(name="one", label=["2", "8"])])
    draw(make_report(empty, "mini", 1, []), tmp_path / "deep/plot.png")
    assert (tmp_path / "deep/plot.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["plot.png"]
