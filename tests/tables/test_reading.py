"""Sweep files: what one holds, and the message for whatever is wrong in one."""

import copy
from pathlib import Path

import pytest
import yaml

from experiments.config.errors import ConfigError
from experiments.config.signatures import CONF
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
    assert sweep.words(one, "paper", 1) == ["experiment=gsq/base", "scale=paper", "updates=7", "groups=2", "width=8", "seed=1"]
    assert sweep.words(two, "paper", 0) == ["experiment=gsq/other", "scale=paper", "updates=100", "seed=0"]


def test_values_are_spelled_as_the_command_line_reads_them():
    assert [spelled(value) for value in (None, True, 1e-4, [2, "a", False])] == ["null", "true", "0.0001", "[2,a,false]"]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["titel"], "x", r"table09_codebooks.yaml: unknown key `titel`; nearest: `title`"),
        (["base"], "gsq/bse", r"base gsq/bse is no experiment; nearest: `gsq/base`"),
        (["columns", 0], "val/rfdi", r"column 1: val/rfdi is no metric; nearest: `val/rfid`"),
        (["columns", 0], "val_twice/rfid", r"column 1: val_twice/rfid has no label of its own; write {key: val_twice/rfid, label: "),
        (["columns", 1, "key"], "val/rfdi", r"column 2: val/rfdi is no metric; nearest: `val/rfid`"),
        (["columns", 1, "key"], "val_twise/rfid", r"column 2: val_twise/rfid is no metric; nearest: `val_twice/rfid`"),
        (["columns", 1, "key"], "val_twice/rfdi", r"column 2: val_twice/rfdi is no metric; nearest: `val_twice/rfid`"),
        (["columns", 1, "better"], "lowest", r"column 2: better is lowest; nearest: `lower`; expected one of lower, higher, none"),
        (["columns", 1, "key"], "val/rfid", r"two columns hold val/rfid"),
        (["evaluate"], {"completed": 1}, r"evaluate names completed, which means something else"),
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


ONE, COLUMN, CLAIM = r"row 1 \(one\)", "column 2", "claim 1"
CLAIMED = {"text": "It is so.", "when": "row('one')['val/rfid'] > 1"}


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["title"], None, "yaml: `title` is null, expected text"),
        (["title"], 5, "yaml: `title` is 5, expected text, with a number in quotes"),
        (["source"], "", "yaml: `source` is empty, expected text"),
        (["base"], ["gsq/base"], r"yaml: `base` is \[gsq/base\], expected text"),
        (["labels"], "start", "yaml: `labels` is start, expected a list of texts"),
        (["labels"], [1], r"yaml: `labels` is \[1\], expected a list of texts, with numbers in quotes"),
        (["columns"], None, "yaml: `columns` is null, expected a list that is not empty"),
        (["columns"], "val/rfid", "yaml: `columns` is val/rfid, expected a list that is not empty"),
        (["rows"], None, "yaml: `rows` is null, expected a list that is not empty"),
        (["rows"], [], r"yaml: `rows` is \[\], expected a list that is not empty"),
        (["rows"], {"one": 1}, "yaml: `rows` is .*, expected a list"),
        (["claims"], None, "yaml: `claims` is null, expected a list"),
        (["claims"], {"text": "so"}, "yaml: `claims` is .*, expected a list"),
        (["notes"], "hello", "yaml: `notes` is hello, expected a list of texts"),
        (["notes"], [{"note": "on: it"}], "yaml: `notes` is .*, expected a list of texts"),
        (["evaluate"], None, "yaml: `evaluate` is null, expected names with whole factors"),
        (["evaluate"], {"twice": "two"}, "yaml: `evaluate` is .*, expected names with whole factors of the image size"),
        (["evaluate"], {"twice": True}, "`evaluate`"),
        (["evaluate"], {"twice": 1.5}, "`evaluate`"),
        (["evaluate"], {"twice": 0}, "`evaluate`"),
        (["evaluate"], {"on/off": 2}, "`evaluate`"),
        (["plot"], "lines", "yaml: `plot` is lines, expected keys and values"),
        (["plot"], {"kind": ["lines"]}, r"yaml, plot: `kind` is \[lines\], expected text"),
        (["plot"], {"kind": "lines", "x": {}, "series": "start", "y": "val/rfid"}, "yaml, plot: `x` is {}, expected text"),
        (["plot"], {"kind": "law", "law": None}, "yaml, plot: `law` is null, expected names with numbers"),
        (["plot"], {"kind": "law", "law": {"B": "x"}}, "yaml, plot: `law` is .*, expected names with numbers"),
        (["mini"], "small", "yaml: `mini` is small, expected dotted keys with values"),
        (["paper"], None, "yaml: `paper` is null, expected dotted keys with values"),
        (["mini"], {"loss": {"weights": 1}}, "yaml: `mini` is .*, expected dotted keys with values"),
        (["mini"], {True: 1}, "yaml: `mini` is .*, expected dotted keys with values"),
        (["columns", 1], None, f"{COLUMN}: expected keys and values, found null"),
        (["columns", 1, "label"], 5, f"{COLUMN}: `label` is 5, expected text"),
        (["columns", 1, "better"], ["lower"], COLUMN),
        (["columns", 1, "key"], ["lower"], COLUMN),
        (["rows", 0], "one", "row 1: expected keys and values, found one; known keys: name"),
        (["rows", 0, "name"], None, "`name` is null, expected a name"),
        (["rows", 0, "name"], "a/b", "`name` is a/b, expected a name of letters, digits and _"),
        (["rows", 0, "label"], "text", f"{ONE}: `label` is text, expected a list of texts and numbers"),
        (["rows", 0, "label"], [None], f"{ONE}: `label`"),
        (["rows", 0, "base"], 5, f"{ONE}: `base` is 5, expected text"),
        (["rows", 0, "overrides"], None, f"{ONE}: `overrides` is null, expected dotted keys with values"),
        (["rows", 0, "overrides"], ["groups=2"], f"{ONE}: `overrides` is .groups=2., expected dotted keys"),
        (["rows", 0, "overrides"], "groups=2", f"{ONE}: `overrides` is groups=2, expected dotted keys"),
        (["rows", 0, "mini"], "groups=2", f"{ONE}: `mini` is groups=2, expected dotted keys"),
        (["rows", 0, "published"], 5, f"{ONE}: `published` is 5, expected a list of cells in quotes"),
        (["rows", 0, "published"], None, f"{ONE}: `published` is null"),
        (["rows", 0, "corrections"], None, f"{ONE}: `corrections` is null, expected keys and values"),
        (["rows", 0, "corrections"], {"val/rfid": {"cel": "1"}}, f"{ONE}, correction of val/rfid: unknown key `cel`; nearest: `cell`"),
        (["rows", 0, "corrections"], {"val/rfid": "1"}, f"{ONE}, correction of val/rfid: expected keys and values, found 1"),
        (["rows", 0, "corrections"], {"val/rfid": {"cell": 1.5, "why": "x"}}, f"{ONE}, correction of val/rfid: `cell` is 1.5, expected"),
        (["rows", 0, "corrections"], {5: {"cell": "1.5", "why": "x"}}, f"{ONE}: corrections names 5, which is no column"),
        (["rows", 0, "quoted"], "no", f"{ONE}: `quoted` is no, expected true or false"),
        (["rows", 0, "note"], ["x"], f"{ONE}: `note` is .x., expected text"),
        (["claims"], ["so"], f"{CLAIM}: expected keys and values, found so"),
        (["claims"], [{**CLAIMED, "when": True}], f"{CLAIM}: `when` is true, expected text"),
        (["claims"], [{**CLAIMED, "scales": "paper"}], f"{CLAIM}: `scales` is paper, expected a list of texts"),
        (["claims"], [{**CLAIMED, "scales": ["papre"]}], f"{CLAIM}: scales names papre; nearest: `paper`"),
    ],
)  # fmt: skip
def test_a_value_of_a_wrong_kind_is_one_message_with_its_place(place, value, message, conf):
    content = copy.deepcopy(TABLE)
    target = content
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    with pytest.raises(ConfigError, match=message):
        read(conf, content)


def test_a_wrong_value_that_is_long_is_shown_in_short(conf):
    with pytest.raises(ConfigError) as caught:
        read(conf, {**TABLE, "notes": "x" * 500})
    assert len(str(caught.value)) < 250


def test_a_file_that_is_no_text_is_named(conf):
    read(conf)
    (conf / "sweep/gsq/table09_codebooks.yaml").write_bytes(b"title: \xff\xfe")
    with pytest.raises(ConfigError, match=r"table09_codebooks\.yaml cannot be read"):
        read_sweep("gsq/table09", conf)


def test_claims_are_decided_at_all_scales_but_the_smoke_test_unless_they_name_theirs(conf):
    sweep = read(conf, {**TABLE, "claims": [CLAIMED, {**CLAIMED, "scales": ["smoke"]}]})
    assert [claim.scales for claim in sweep.claims] == [("paper", "gpu", "mini"), ("smoke",)]


def test_a_file_without_a_needed_key_or_that_is_no_mapping_is_refused(conf):
    with pytest.raises(ConfigError, match="`rows` is missing"):
        read(conf, {key: value for key, value in TABLE.items() if key != "rows"})
    with pytest.raises(ConfigError, match=r"expected keys and values, found \[rows\]; known keys: title, source"):
        read(conf, ["rows"])
    for key in ("title", "source", "base", "columns"):
        with pytest.raises(ConfigError, match=f"table09_codebooks.yaml: `{key}` is missing"):
            read(conf, {other: value for other, value in TABLE.items() if other != key})
    with pytest.raises(ConfigError, match=r"row 1 \(one\): unknown key `lable`; nearest: `label`"):
        read(conf, {**TABLE, "rows": [{"name": "one", "lable": []}]})
    with pytest.raises(ConfigError, match=r"row 1: `name` is missing"):
        read(conf, {**TABLE, "rows": [{"label": []}]})


def test_the_first_table_of_gsq_is_there():
    assert [row.name for row in read_sweep("gsq/table01", CONF).runs] == ["uniform", "uniform_l2", "sphere", "sphere_l1", "sphere_l2"]
