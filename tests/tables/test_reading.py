"""Sweep files: what one holds, and the message for whatever is wrong in one."""

import copy
from pathlib import Path

import pytest
import yaml

from experiments.signatures import CONF, ConfigError
from experiments.tables.reading import read_sweep, sweep_names
from experiments.tables.sweep_file import spelled

TABLE = {
    "title": "Codebooks",
    "source": "arXiv:2412.02632 table 1",
    "base": "gsq/base",
    "labels": ["start"],
    "columns": ["val/rfid", {"key": "val_twice/rfid", "label": "rFID-256", "better": "lower"}],
    "mini": {"codebook_size": 64, "width": 16},
    "paper": {"updates": 100},
    "rows": [
        {
            "name": "one",
            "label": ["uniform"],
            "overrides": {"groups": 2, "width": 8},
            "published": ["2.000", None],
            "paper": {"updates": 7},
        },
        {"name": "two", "label": ["sphere"], "base": "gsq/other", "published": ["1.5", "0.08"], "corrections": {}},
        {"name": "theirs", "label": ["?"], "quoted": True, "published": ["1.6", None]},
    ],
    "evaluate": {"twice": 2},
}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    for name in ("base", "other"):
        (tmp_path / "experiment" / "gsq").mkdir(parents=True, exist_ok=True)
        (tmp_path / "experiment" / "gsq" / f"{name}.yaml").write_text("")
    return tmp_path


def read(conf: Path, content=TABLE):
    (conf / "sweep" / "gsq").mkdir(parents=True, exist_ok=True)
    (conf / "sweep" / "gsq" / "table09_codebooks.yaml").write_text(yaml.safe_dump(content))
    return read_sweep("gsq/table09_codebooks", conf)


def test_a_file_is_found_by_its_name_or_the_beginning_of_it(conf):
    read(conf)
    for name in ("gsq/table09_codebooks", "gsq/table09_codebooks.yaml", "gsq/table09"):
        assert read_sweep(name, conf).name == "gsq/table09_codebooks"
    assert sweep_names(conf) == ["gsq/table09_codebooks"]
    with pytest.raises(ConfigError, match="gsq/tabel09: there is no such sweep file; nearest: `gsq/table09_codebooks`"):
        read_sweep("gsq/tabel09", conf)


def test_cells_stay_as_they_are_printed_and_quoted_rows_are_no_runs(conf):
    sweep = read(conf)
    assert [row.published for row in sweep.rows] == [["2.000", None], ["1.5", "0.08"], ["1.6", None]]
    assert [row.name for row in sweep.runs] == ["one", "two"]
    assert [column.label for column in sweep.columns] == ["rFID", "rFID-256"]


def test_a_row_becomes_words_and_what_it_studies_comes_last(conf):
    sweep = read(conf)
    one, two = sweep.runs
    assert sweep.words(one, "mini", 3, ["workers=0"]) == [
        "experiment=gsq/base", "scale=mini", "codebook_size=64", "workers=0", "groups=2", "width=8", "seed=3",
    ]  # fmt: skip
    assert sweep.words(one, "paper", None) == ["experiment=gsq/base", "scale=paper", "updates=7", "groups=2", "width=8"]
    assert sweep.words(two, "paper", 0) == ["experiment=gsq/other", "scale=paper", "updates=100", "seed=0"]


def test_values_are_spelled_as_the_command_line_reads_them():
    assert [spelled(value) for value in (None, True, 1e-4, [2, "a", False])] == ["null", "true", "0.0001", "[2,a,false]"]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["titel"], "x", r"table09_codebooks.yaml: unknown key `titel`; nearest: `title`"),
        (["base"], "gsq/bse", r"base gsq/bse is no experiment; nearest: `gsq/base`"),
        (["columns", 0], "val/rfdi", r"columns: val/rfdi is not known; nearest: `val/rfid`"),
        (["rows", 1, "name"], "one", r"two rows are called one"),
        (["rows", 1, "overides"], {}, r"row 2 \(two\): unknown key `overides`; nearest: `overrides`"),
        (["rows", 0, "published"], [2.0, None], r'row 1 \(one\): published cell 2.0 must be quoted as "2.0"'),
        (["rows", 0, "published"], ["2.0"], r"row 1 \(one\): published has 1 cells, columns has 2"),
        (["rows", 0, "label"], [], r"row 1 \(one\): label has 0 cells, labels names 1: start"),
        (["rows", 1, "base"], "gsq/none", r"row 2 \(two\): base gsq/none is no experiment"),
        (
            ["rows", 1, "corrections"],
            {"val/fid": {"cell": "1", "why": "x"}},
            r"row 2 \(two\): corrections names val/fid, which is no column",
        ),
        (["rows", 2, "overrides"], {"groups": 2}, r"row 3 \(theirs\): a quoted row is never run"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(place, value, message, conf):
    content = copy.deepcopy(TABLE)
    target = content
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    with pytest.raises(ConfigError, match=message):
        read(conf, content)


def test_a_file_without_a_needed_key_or_that_is_no_mapping_is_refused(conf):
    with pytest.raises(ConfigError, match="`rows` is missing"):
        read(conf, {key: value for key, value in TABLE.items() if key != "rows"})
    with pytest.raises(ConfigError, match="expected the keys of a sweep file"):
        read(conf, ["rows"])


def test_the_first_table_of_gsq_is_there():
    assert [row.name for row in read_sweep("gsq/table01", CONF).runs] == ["uniform", "uniform_l2", "sphere", "sphere_l1", "sphere_l2"]
