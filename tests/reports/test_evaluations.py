"""Numbers of evaluations and probes in a report: whose they are, why they are missing, and which cards agree."""

import functools
import json

import pytest

from experiments.config.errors import ConfigError
from experiments.config.packages import CONF
from experiments.evaluation.protocol import protocol_id
from experiments.evaluation.results import Skipped, plain
from experiments.reports.formats import markdown
from experiments.reports.measured import measure
from experiments.reports.report import make_report
from experiments.tables.measurements import Measurement, measurements
from experiments.tables.reading import read_sweep
from experiments.tables.scaled import Probe
from tests.reports.made_runs import composed, replace, share_compositions, write_run

DIGITS = read_sweep("digits/probe", CONF)
FIRST, SECOND, _ = DIGITS.rows
HALVES = {"half": {"batch_size": 8}, "third": {"batch_size": 5}}
TABLE = replace(
    DIGITS,
    rows=[FIRST, replace(SECOND, probes={"xl": Probe.model_validate({"protocol": "small", "samples": 9})})],
    columns=[*DIGITS.columns, replace(DIGITS.columns[-1], key="probe_xl/acc1"), replace(DIGITS.columns[0], key="val_half/psnr")],
    evaluations=HALVES,
    claims=[],
)
ONE, TWO = TABLE.rows


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    share_compositions(monkeypatch)


@functools.cache
def measured_of(name: str) -> dict[str, Measurement]:
    """The evaluations and probes of a row by title."""
    row = next(row for row in TABLE.rows if row.name == name)
    training = composed("train", tuple(TABLE.training_overrides(row, "mini", 0)), CONF)
    return {each.title: each for each in measurements(TABLE, row, "mini", training, [])}


def write(row, title, metrics, state="done", **more):
    """Leave the run of a row, unless it is there, and the result of one of its evaluations or probes."""
    folder = write_run(TABLE, row, {"val/psnr": 20.0, "val/bits_per_token": 8.0})
    each = measured_of(row.name)[title]
    protocol = protocol_id(each.composition.config, "small") if each.composition else None
    cards = {key: {"metric": key, "n": 7, "protocol": protocol} for key in metrics}
    file = folder.path / "evaluations" / each.folder / "result.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"state": state, "metrics": metrics, "cards": cards, **more}))


def runs():
    return [row.runs[0] for row in measure(TABLE, "mini", 1, [])]


def test_probes_are_read_under_their_names_and_their_reconstructions_are_not():
    write(ONE, "probe", {"probe/acc1": 0.5, "val/psnr": 1.0})
    write(TWO, "probe", {"probe/acc1": 0.25})
    write(TWO, "probe xl", {"probe/acc1": 0.75, "probe/guidance": 2.0})
    one, two = runs()
    assert (one.metrics["val/psnr"], one.metrics["probe/acc1"]) == (20.0, 0.5)
    assert (two.metrics["probe/acc1"], two.metrics["probe_xl/acc1"], two.metrics["probe_xl/guidance"]) == (0.25, 0.75, 2.0)
    assert two.cards["probe_xl/acc1"]["n"] == 7
    assert one.skipped["probe_xl/acc1"] == "this row has no probe xl"


def test_a_number_of_a_probe_is_missing_for_its_own_reason():
    skipped = plain({"probe/gfid": Skipped("no file", "inception"), "probe/acc1": Skipped("one block"), "val/rfid": Skipped("no file")})
    write(ONE, "probe", {"probe/frechet_digits": 1.0}, skipped=skipped)
    write(TWO, "probe", {"probe/frechet_digits": 2.0}, state="failed", error="out of memory")
    one, two = measure(TABLE, "mini", 1, [])
    assert one.why_missing("probe/acc1") == "one block"
    assert one.why_missing("probe/gfid").startswith("weights absent: ")
    assert "probe/rfid" not in one.runs[0].skipped
    assert two.state == "done, probe failed"
    assert (two.runs[0].failed, two.why_missing("probe/acc1")) == ({"probe": "out of memory"}, "probe failed")
    assert two.why_missing("probe_xl/acc1") == "probe xl not run"
    assert two.mean("probe/frechet_digits").value == 2.0


def test_a_row_has_the_numbers_of_its_evaluation_in_place_of_those_of_its_training():
    table = replace(
        TABLE, rows=[replace(ONE, evaluation="half"), replace(ONE, name="whole"), replace(ONE, name="other", evaluation="third")]
    )
    write(ONE, "evaluation half", {"val/psnr": 15.0, "val_raw/psnr": 14.0}, skipped=plain({"rfid": Skipped("too few")}))
    half, whole, other = measure(table, "mini", 1, [])
    (run,) = half.runs
    assert (run.metrics["val/psnr"], run.metrics["val_half/psnr"], run.skipped["val/rfid"]) == (15.0, 15.0, "too few")
    assert run.cards["val/psnr"]["n"] == 7
    assert "val/bits_per_token" not in run.metrics
    assert (whole.mean("val/psnr").value, whole.mean("val_half/psnr").value) == (20.0, 15.0)
    assert (other.mean("val/psnr"), other.why_missing("val/psnr")) == (None, "evaluation third not run")
    assert other.mean("val_half/psnr").value == 15.0


def test_results_of_another_protocol_or_seed_are_not_those_of_the_row():
    write(ONE, "probe", {"probe/acc1": 0.5})
    other = replace(TABLE, rows=[replace(ONE, probes={"probe": Probe.model_validate({"protocol": "small", "samples": 8})})])
    (row,) = measure(other, "mini", 1, [])
    assert (row.mean("probe/acc1"), row.why_missing("probe/acc1")) == (None, "probe not run")


def test_a_scale_for_which_a_probe_has_no_protocol_is_an_error_though_nothing_was_run():
    with pytest.raises(ConfigError) as caught:
        measure(DIGITS, "paper", 1, [])
    assert (caught.value.place, caught.value.key, caught.value.value) == (
        "conf/sweep/digits/probe.yaml, row 1 (v16), probe",
        "scale",
        "paper",
    )


def test_an_unpublished_table_is_reported_without_a_column_of_the_paper():
    write(ONE, "probe", {"probe/acc1": 0.5})
    write(TWO, "probe", {"probe/acc1": 0.25})
    claim = replace(DIGITS.claims[-1], when="row('v16')['probe/acc1'] > row('v256')['probe/acc1']")
    made = make_report(replace(TABLE, claims=[claim]), "mini", 1, [])
    (table,) = made.tables
    assert (table.title, table.heads) == ("Claims", ["claim", "measured", "measured values"])
    assert table.rows[0][1:] == ["holds", "v16 AR top-1 50 %, v256 AR top-1 25 %"]
    assert made.legend == "Measured at scale=mini; nothing is published."
    head = next(line for line in markdown(made).splitlines() if line.startswith("| codebook_size"))
    assert "AR top-1 (%)" in head
    assert "measured" not in head
    protocol = protocol_id(measured_of("v16")["probe"].composition.config, "small")
    assert f"Protocol: {protocol}" in made.basis
    assert "Losses: reconstruction 1; no perceptual loss" in made.basis
    assert make_report(replace(TABLE, claims=[]), "smoke", 1, []).legend == "Nothing is measured at scale=smoke."
