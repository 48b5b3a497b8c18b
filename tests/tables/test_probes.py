"""Evaluations and probes of a sweep file: settings of each row at a scale, and columns that there are."""

from pathlib import Path

import pytest

from experiments.config.errors import ConfigError
from tests.tables.made_tables import FILE, TABLE, make_conf, read


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return make_conf(tmp_path)


PROBED = {
    **TABLE,
    "columns": ["val/rfid", "probe/gfid", {"key": "probe_xl/acc1", "label": "top-1", "unit": "%"}],
    "rows": [
        {"name": "one", "label": [1], "evaluation": "twice"},
        {"name": "two", "label": [2], "probes": {"xl": {"protocol": "small", "samples": 3, "mini": {"samples": 2}}}},
        {"name": "three", "label": [3], "probes": {"probe": {"protocol": "small", "linear.epochs": 1}}},
    ],
    "probes": {"probe": {"mini": {"protocol": "small"}, "samples": 9}},
}


def test_a_row_has_the_probes_of_the_file_and_its_own_and_settings_of_the_scale_come_after(conf):
    sweep = read(conf, PROBED)
    of_file = {"probe": {"samples": 9, "protocol": "small"}}
    assert [sweep.probe_settings(row, "mini") for row in sweep.rows] == [
        of_file,
        {**of_file, "xl": {"protocol": "small", "samples": 2}},
        {"probe": {"protocol": "small", "linear.epochs": 1}},
    ]
    assert [row.evaluation for row in sweep.rows] == ["twice", None, None]


def test_a_probe_without_a_protocol_at_a_scale_is_an_error_at_that_scale(conf):
    sweep = read(conf, PROBED)
    assert sweep.probe_settings(sweep.rows[2], "paper")["probe"]["protocol"] == "small"
    for row in sweep.rows[:2]:
        with pytest.raises(ConfigError) as caught:
            sweep.probe_settings(row, "paper")
        assert (caught.value.place, caught.value.key, caught.value.value) == ("probe", "scale", "paper")
        assert caught.value.expected == "one of mini"


@pytest.mark.parametrize(
    ("key", "of_file", "of_row", "prefixes"),
    [
        ("probe/gfid", {}, {}, ["val", "val_twice", "model"]),
        ("probe/gfid", {"xl": {}}, {}, ["val", "val_twice", "probe_xl", "model"]),
        ("probe_xl/gfid", {"probe": {}}, {}, ["val", "val_twice", "probe", "model"]),
        ("val_thrice/rfid", {}, {"xl": {}}, ["val", "val_twice", "probe_xl", "model"]),
        ("probe/psnr", {"probe": {}}, {"xl": {}}, ["val", "val_twice", "probe", "probe_xl", "model"]),
    ],
)
def test_a_column_of_an_evaluation_or_probe_that_does_not_exist_is_refused_with_those_that_do(key, of_file, of_row, prefixes, conf):
    rows = [{"name": "one", "label": [1], "probes": of_row}]
    with pytest.raises(ConfigError) as caught:
        read(conf, {**TABLE, "columns": [{"key": key, "label": "x"}], "probes": of_file, "rows": rows})
    assert (caught.value.place, caught.value.key, caught.value.value) == (f"{FILE}, column 1", "key", key)
    listed = caught.value.expected.removeprefix("a metric under ").split(", ")
    assert sorted(listed) == sorted(f"{prefix}/" for prefix in prefixes)


def test_columns_of_a_probe_are_those_of_every_metric_that_it_gives(conf):
    names = ["gfid", "inception_score", "precision", "recall", "nll", "acc1", "tokenizer_acc1", "guidance", "frechet_digits"]
    table, rows = {**TABLE, "columns": [f"probe/{name}" for name in names]}, [{"name": "a", "label": [1]}]
    sweep = read(conf, {**table, "rows": rows, "probes": {"probe": {}}})
    assert all(column.label for column in sweep.columns)
    renamed = [{"key": f"probe_xl/{name}", "label": name} for name in names]
    read(conf, {**TABLE, "columns": renamed, "rows": [{"name": "a", "label": [1], "probes": {"xl": {}}}]})


def test_claims_may_use_numbers_of_evaluations_and_probes_that_are_no_columns(conf):
    when = "row('one')['val_twice/psnr'] > row('two')['probe_xl/acc1'] - row('two')['probe/nll']"
    assert read(conf, {**PROBED, "claims": [{"text": "It is so.", "when": when}]}).claims[0].when == when
