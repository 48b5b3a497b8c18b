"""Sweep files: what one holds, and the message for whatever is wrong in one."""

import copy
from pathlib import Path

import pytest
import yaml

from experiments.config.errors import ConfigError, spelled
from experiments.config.files import ConfigFolders
from experiments.config.packages import CONF
from experiments.tables.reading import read_sweep
from tests.tables.made_tables import FILE, TABLE, make_conf, read


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return make_conf(tmp_path)


def test_a_file_is_found_by_its_name_or_the_beginning_of_it(conf):
    read(conf)
    for name in ("gsq/table09_codebooks", "gsq/table09_codebooks.yaml", "gsq/table09"):
        assert read_sweep(name, conf).name == "gsq/table09_codebooks"
    assert ConfigFolders(conf).choices("sweep") == ["gsq/table09_codebooks"]
    with pytest.raises(ConfigError) as caught:
        read_sweep("gsq/tabel09", conf)
    assert (caught.value.key, caught.value.value, caught.value.nearest) == ("table", "gsq/tabel09", "gsq/table09_codebooks")


def test_cells_stay_as_they_are_printed_and_quoted_rows_are_no_runs(conf):
    sweep = read(conf)
    assert [row.published for row in sweep.rows] == [["2.000", None], ["1.5", "0.08"], ["1.6", None]]
    assert [row.name for row in sweep.runs] == ["one", "two"]
    assert [column.label for column in sweep.columns] == ["rFID", "rFID-256"]


def test_a_row_becomes_words_and_what_it_studies_comes_last(conf):
    sweep = read(conf)
    one, two = sweep.runs
    assert sweep.training_overrides(one, "mini", 3, ["workers=0"]) == [
        "experiment=gsq/base", "scale=mini", "codebook_size=64", "workers=0", "groups=2", "width=8", "seed=3",
    ]  # fmt: skip
    assert sweep.training_overrides(one, "paper", 1) == ["experiment=gsq/base", "scale=paper", "updates=7", "groups=2", "width=8", "seed=1"]
    assert sweep.training_overrides(two, "paper", 0) == ["experiment=gsq/other", "scale=paper", "updates=100", "seed=0"]


def test_a_command_of_a_row_has_no_key_twice(conf):
    words = read(conf).training_overrides(read(conf).runs[1], "mini", 0, ["codebook_size=32", "--config-dir=a", "--config-dir=b"])
    assert words == ["experiment=gsq/other", "scale=mini", "width=16", "codebook_size=32", "--config-dir=a", "--config-dir=b", "seed=0"]


def test_values_are_spelled_as_the_command_line_reads_them():
    assert [spelled(value) for value in (None, True, 1e-4, [2, "a", False])] == ["null", "true", "0.0001", "[2,a,false]"]


ONE, TWO, THEIRS, CLAIM = "row 1 (one)", "row 2 (two)", "row 3 (theirs)", "claim 1"
CLAIMED = {"text": "It is so.", "when": "row('one')['val/rfid'] > 1"}


def wrong(conf: Path, path: list, value: object) -> ConfigError:
    """The error for the table with one value replaced."""
    content = copy.deepcopy(TABLE)
    target = content
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    with pytest.raises(ConfigError) as caught:
        read(conf, content)
    assert caught.value.place.startswith(FILE)
    return caught.value


@pytest.mark.parametrize(
    ("path", "value", "place", "key", "nearest"),
    [
        (["titel"], "x", "", "titel", "title"),
        (["base"], "gsq/bse", "", "base", "gsq/base"),
        (["columns", 0], "val/rfdi", "column 1", "key", "val/rfid"),
        (["columns", 0], "val_twice/rfid", "column 1", "key", "val/rfid"),
        (["columns", 1, "key"], "val/rfdi", "column 2", "key", "val/rfid"),
        (["columns", 1, "key"], "val_twise/rfid", "column 2", "key", "val_twice/rfid"),
        (["columns", 1, "key"], "val_twice/rfdi", "column 2", "key", "val_twice/rfid"),
        (["columns", 1, "better"], "lowest", "column 2", "better", "lower"),
        (["columns", 1, "lable"], "x", "column 2", "lable", "label"),
        (["rows", 1, "overides"], {}, TWO, "overides", "overrides"),
        (["rows", 1, "base"], "gsq/othre", TWO, "base", "gsq/other"),
        (["rows", 0, "corrections"], {"val/fid": {"cell": "1", "why": "x"}}, ONE, "corrections.val/fid", "val/rfid"),
        (["rows", 0, "corrections"], {"val/rfid": {"cel": "1"}}, ONE, "corrections.val/rfid.cel", "cell"),
        (["claims"], [{**CLAIMED, "scales": ["papre"]}], CLAIM, "scales.0", "paper"),
        (["claims"], [{**CLAIMED, "when": "row('oen')['val/rfid'] > 1"}], CLAIM, "when", "one"),
        (["plot"], {"kind": "curve", "y": "val/rfid"}, "", "plot.kind", "curves"),
        (["rows", 0, "evaluation"], "twise", ONE, "evaluation", "twice"),
        (["probes"], {"probe": {"protocol": "smalls"}}, "", "probes.probe.protocol", "small"),
        (["probes"], {"probe": {"mini": {"protocol": "smalls"}}}, "", "probes.probe.mini.protocol", "small"),
        (["probes"], {"probe": {"minni": {"protocol": "small"}}}, "", "probes.probe.minni", "mini"),
        (["rows", 1, "probes"], {"xl": {"protocol": "smalls"}}, TWO, "probes.xl.protocol", "small"),
    ],
)
def test_a_misspelled_word_is_named_with_its_place_and_the_nearest(path, value, place, key, nearest, conf):
    error = wrong(conf, path, value)
    assert (error.place, error.key, error.nearest) == (f"{FILE}, {place}".rstrip(", "), key, nearest)


LINES = {"kind": "lines", "x": "start", "series": "start", "y": "val/rfid"}


@pytest.mark.parametrize(
    ("path", "value", "place", "key"),
    [
        (["title"], None, "", "title"),
        (["title"], 5, "", "title"),
        (["source"], "", "", "source"),
        (["source"], "  ", "", "source"),
        (["base"], ["gsq/base"], "", "base"),
        (["labels"], "start", "", "labels"),
        (["labels"], [1], "", "labels.0"),
        (["columns"], None, "", "columns"),
        (["columns"], "val/rfid", "", "columns"),
        (["columns"], [], "", "columns"),
        (["columns", 1, "key"], "val/rfid", "", "key"),
        (["rows"], None, "", "rows"),
        (["rows"], [], "", "rows"),
        (["rows"], {"one": 1}, "", "rows"),
        (["claims"], None, "", "claims"),
        (["claims"], {"text": "so"}, "", "claims"),
        (["notes"], "hello", "", "notes"),
        (["notes"], [{"note": "on: it"}], "", "notes.0"),
        (["evaluations"], None, "", "evaluations"),
        (["evaluations"], {"twice": 2}, "", "evaluations.twice"),
        (["evaluations"], {"twice": {"image_size_times": "two"}}, "", "evaluations.twice.image_size_times"),
        (["evaluations"], {"twice": {"image_size_times": True}}, "", "evaluations.twice.image_size_times"),
        (["evaluations"], {"twice": {"image_size_times": 1.5}}, "", "evaluations.twice.image_size_times"),
        (["evaluations"], {"twice": {"image_size_times": 0}}, "", "evaluations.twice.image_size_times"),
        (["evaluations"], {"twice": {"batch_size": {"a": 1}}}, "", "evaluations.twice.batch_size"),
        (["evaluations"], {"twice": {"seed": 1}}, "", "evaluations.twice.seed"),
        (["evaluations"], {"on/off": {}}, "", "evaluations.on/off"),
        (["evaluations"], {"completed": {}}, "", "evaluations.completed"),
        (["probes"], None, "", "probes"),
        (["probes"], {"probe": "small"}, "", "probes.probe"),
        (["probes"], {"on/off": {"protocol": "small"}}, "", "probes.on/off"),
        (["probes"], {"probe": {"protocol": 3}}, "", "probes.probe.protocol"),
        (["probes"], {"probe": {"protocol": "small", "tokenizer": "runs/a"}}, "", "probes.probe.tokenizer"),
        (["probes"], {"probe": {"mini": {"protocol": "small", "seed": 1}}}, "", "probes.probe.mini.seed"),
        (["probes"], {"probe": {"mini": "small"}}, "", "probes.probe.mini"),
        (["probes"], {"probe": {"mini": {"linear": {"epochs": 1}}}}, "", "probes.probe.mini.linear"),
        (["rows", 0, "probes"], {"probe": {"samples": float("nan")}}, ONE, "probes.probe.samples"),
        (["rows", 0, "evaluation"], 5, ONE, "evaluation"),
        (["rows", 2, "evaluation"], "twice", THEIRS, "quoted"),
        (["rows", 2, "probes"], {"probe": {"protocol": "small"}}, THEIRS, "quoted"),
        (["plot"], "lines", "", "plot"),
        (["plot"], {**LINES, "kind": ["lines"]}, "", "plot.kind"),
        (["plot"], {**LINES, "x": {}}, "", "plot.x"),
        (["plot"], {**LINES, "law": {"B": "x"}}, "", "plot.law.B"),
        (["plot"], {**LINES, "law": {"B": float("nan"), "a": 1, "C": 1, "b": 1}}, "", "plot.law.B"),
        (["mini"], "small", "", "mini"),
        (["paper"], None, "", "paper"),
        (["mini"], {"loss": {"weights": 1}}, "", "mini.loss"),
        (["mini"], {True: 1}, "", "mini.1"),
        (["columns", 1], None, "column 2", ""),
        (["columns", 1, "label"], 5, "column 2", "label"),
        (["columns", 1, "better"], ["lower"], "column 2", "better"),
        (["columns", 1, "key"], ["lower"], "column 2", "key"),
        (["rows", 0], "one", "row 1", ""),
        (["rows", 0, "name"], None, "row 1 (None)", "name"),
        (["rows", 0, "name"], "a/b", "row 1 (a/b)", "name"),
        (["rows", 1, "name"], "one", "", "name"),
        (["rows", 0, "label"], "text", ONE, "label"),
        (["rows", 0, "label"], [None], ONE, "label.0"),
        (["rows", 0, "label"], [float("inf")], ONE, "label.0"),
        (["rows", 0, "label"], [], ONE, "label"),
        (["rows", 0, "base"], 5, ONE, "base"),
        (["rows", 0, "overrides"], None, ONE, "overrides"),
        (["rows", 0, "overrides"], ["groups=2"], ONE, "overrides"),
        (["rows", 0, "overrides"], "groups=2", ONE, "overrides"),
        (["rows", 0, "overrides"], {"width": float("nan")}, ONE, "overrides.width"),
        (["rows", 0, "mini"], "groups=2", ONE, "mini"),
        (["rows", 0, "published"], 5, ONE, "published"),
        (["rows", 0, "published"], None, ONE, "published"),
        (["rows", 0, "published"], [2.0, None], ONE, "published.0"),
        (["rows", 0, "published"], ["2.0"], ONE, "published"),
        (["rows", 0, "corrections"], None, ONE, "corrections"),
        (["rows", 0, "corrections"], {"val/rfid": "1"}, ONE, "corrections.val/rfid"),
        (["rows", 0, "corrections"], {"val/rfid": {"cell": 1.5, "why": "x"}}, ONE, "corrections.val/rfid.cell"),
        (["rows", 0, "corrections"], {5: {"cell": "1.5", "why": "x"}}, ONE, "corrections.5"),
        (["rows", 0, "quoted"], "no", ONE, "quoted"),
        (["rows", 0, "quoted"], True, ONE, "quoted"),
        (["rows", 0, "note"], ["x"], ONE, "note"),
        (["rows", 2, "overrides"], {"groups": 2}, THEIRS, "quoted"),
        (["claims"], ["so"], CLAIM, ""),
        (["claims"], [{**CLAIMED, "when": True}], CLAIM, "when"),
        (["claims"], [{**CLAIMED, "scales": "paper"}], CLAIM, "scales"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_place(path, value, place, key, conf):
    error = wrong(conf, path, value)
    assert (error.place, error.key) == (f"{FILE}, {place}".rstrip(", "), key)


def test_the_form_of_the_message(conf):
    message = str(wrong(conf, ["rows", 0, "published"], [2.0, None]))
    assert message == f'{FILE}, {ONE}: published.0=2.0: expected text; a number needs quotes, such as "2.0"; change `published.0`'
    message = str(wrong(conf, ["rows", 1, "base"], "gsq/othre"))
    assert message == f"{FILE}, {TWO}: base=gsq/othre: expected a file of conf/experiment; nearest: `gsq/other`; change `base`"


def test_a_key_that_is_written_twice_is_an_error(conf):
    read(conf)
    file = conf / "sweep/gsq/table09_codebooks.yaml"
    file.write_text(file.read_text() + "title: Another\n")
    with pytest.raises(ConfigError) as caught:
        read_sweep("gsq/table09", conf)
    assert caught.value.key == FILE
    assert f"the key title is there twice, again in line {len(file.read_text().splitlines())}" in caught.value.reason


def test_a_wrong_value_that_is_long_is_shown_in_short(conf):
    with pytest.raises(ConfigError) as caught:
        read(conf, {**TABLE, "notes": "x" * 500})
    assert len(str(caught.value)) < 250


def test_a_file_that_is_no_text_is_named(conf):
    read(conf)
    (conf / "sweep/gsq/table09_codebooks.yaml").write_bytes(b"title: \xff\xfe")
    with pytest.raises(ConfigError, match=r"table09_codebooks\.yaml: cannot be read"):
        read_sweep("gsq/table09", conf)


def test_claims_are_decided_at_all_scales_but_the_smoke_test_unless_they_name_theirs(conf):
    sweep = read(conf, {**TABLE, "claims": [CLAIMED, {**CLAIMED, "scales": ["smoke"]}]})
    assert [claim.scales for claim in sweep.claims] == [["paper", "gpu", "mini"], ["smoke"]]


def test_a_file_without_a_needed_key_or_that_is_no_mapping_is_refused(conf):
    for key in ("title", "source", "base", "columns", "rows"):
        with pytest.raises(ConfigError) as caught:
            read(conf, {other: value for other, value in TABLE.items() if other != key})
        assert (caught.value.key, caught.value.reason) == (key, "is missing")
    for content in (["rows"], None, "rows"):
        with pytest.raises(ConfigError, match="expected keys and values"):
            read(conf, content)
    with pytest.raises(ConfigError, match="row 1: name: is missing"):
        read(conf, {**TABLE, "rows": [{"label": []}]})
    with pytest.raises(ConfigError, match=r"name: unknown key"):
        read(conf, {**TABLE, "name": "gsq/another"})


def test_the_first_table_of_gsq_is_there():
    assert [row.name for row in read_sweep("gsq/table01", CONF).runs] == ["uniform", "uniform_l2", "sphere", "sphere_l1", "sphere_l2"]


def test_a_table_of_another_folder_is_found_and_named(conf, tmp_path_factory):
    mine = tmp_path_factory.mktemp("mine")
    (mine / "sweep" / "lab").mkdir(parents=True)
    (mine / "sweep" / "lab" / "table01_ours.yaml").write_text(yaml.safe_dump(TABLE))
    assert read_sweep("lab/table01", conf, (mine,)).name == "lab/table01_ours"
    (mine / "sweep" / "lab" / "table01_ours.yaml").write_text("title: [")
    with pytest.raises(ConfigError) as caught:
        read_sweep("lab/table01", conf, (mine,))
    assert caught.value.key == f"{mine.name}/sweep/lab/table01_ours.yaml"
