"""Rows with seeds as training commands, all checked before the first starts."""

import shutil
from pathlib import Path

import pytest

from experiments.config.compose import compose
from experiments.config.errors import ConfigError
from experiments.config.packages import CONF
from experiments.sweeps.jobs import compose_jobs
from experiments.tables.reading import read_sweep
from tokenizer.weights import FILES, MissingWeightsError

TABLE = "gsq/table01_codebook"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    shutil.copytree(CONF, tmp_path / "conf")
    return tmp_path / "conf"


def jobs(*extra: str, conf: Path = CONF, seeds: int = 1, only: str = "", scale: str = "smoke", table: str = TABLE):
    return compose_jobs(read_sweep(table, conf), scale, range(seeds), extra, [name for name in only.split(",") if name], conf)


def edit(conf: Path, old: str, new: str) -> None:
    file = conf / "sweep" / f"{TABLE}.yaml"
    assert file.read_text().count(old) == 1
    file.write_text(file.read_text().replace(old, new))


def test_rows_come_in_the_files_order_and_a_rows_seeds_together():
    found = jobs(seeds=2, only="sphere_l1,uniform")
    assert [(job.row.name, job.seed) for job in found] == [("uniform", 0), ("uniform", 1), ("sphere_l1", 0), ("sphere_l1", 1)]
    assert [job.name for job in found] == ["uniform", "uniform-seed1", "sphere_l1", "sphere_l1-seed1"]
    assert [job.composition.config["seed"] for job in found] == [0, 1, 0, 1]
    assert found[2].composition.config["task"]["tokenizer"]["quantizer"]["normalization"] == "l1"


def test_a_typo_in_the_fourth_row_is_named_with_file_row_and_nearest_key(conf):
    edit(conf, "{quantizer.initialization: sphere, quantizer.normalization: l1}", "{quantizer.initializaton: sphere}")
    with pytest.raises(ConfigError) as caught:
        jobs(conf=conf)
    for part in (
        "conf/sweep/gsq/table01_codebook.yaml, row 4 (sphere_l1)",
        "quantizer.initializaton",
        "nearest: `quantizer.initialization`",
    ):
        assert part in str(caught.value)


def test_of_two_wrong_rows_the_first_is_named(conf):
    edit(conf, "{quantizer.initialization: sphere, quantizer.normalization: l1}", "{quantizer.initializaton: sphere}")
    edit(conf, "{quantizer.initialization: uniform, quantizer.normalization: l2}", "{quantizer.normalizaton: l2}")
    with pytest.raises(ConfigError) as caught:
        jobs(conf=conf)
    assert caught.value.place == "conf/sweep/gsq/table01_codebook.yaml, row 2 (uniform_l2)"
    assert (caught.value.key, caught.value.nearest) == ("quantizer.normalizaton", "quantizer.normalization")


def test_a_wrong_word_of_the_command_line_is_no_rows_fault():
    with pytest.raises(ConfigError, match="nearest: `groups`") as caught:
        jobs("grups=3")
    assert caught.value.place == "for the training of every row"


@pytest.mark.parametrize(
    "extra", ["quantizer.normalization=l2", "+quantizer.normalization=l2", "seed=3", "rerun=true", "resume=runs/gsq/0123456789ab"]
)
def test_what_a_row_or_the_sweep_decides_cannot_be_set_for_all(extra):
    with pytest.raises(ConfigError, match=r"experiments\.train") as caught:
        jobs(extra)
    assert f"{caught.value.key}={caught.value.value}" == extra


def test_an_unknown_row_is_named_with_the_nearest():
    with pytest.raises(ConfigError) as caught:
        jobs(only="unifrom")
    assert (caught.value.key, caught.value.value, caught.value.nearest) == ("only", "unifrom", "uniform")


def test_what_a_row_has_for_itself_at_a_scale_cannot_be_set_for_all_and_what_the_table_has_can(conf):
    edit(conf, "uniform, quantizer.normalization: none}", "uniform, quantizer.normalization: none}\n    smoke: {batch_size: 8}")
    with pytest.raises(ConfigError, match=r"batch_size=6: row uniform of gsq/table01_codebook sets this itself"):
        jobs("batch_size=6", conf=conf)
    assert [job.composition.config["batch_size"] for job in jobs(conf=conf, only="uniform,uniform_l2")] == [8, 4]
    assert jobs("batch_size=6", conf=conf, only="uniform_l2")[0].composition.config["batch_size"] == 6
    given = read_sweep(TABLE, conf).budget("mini")["codebook_size"]
    job = jobs(f"codebook_size={2 * given}", conf=conf, scale="mini", only="uniform")[0]
    assert job.composition.config["codebook_size"] == 2 * given


def test_a_row_whose_weights_are_absent_is_set_apart_but_for_the_paper_s_scale(conf, tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    edit(conf, "{quantizer.initialization: sphere, quantizer.normalization: l1}", "{loss: lpips, loss.weights.perceptual: 1.0}")
    found = jobs(conf=conf)
    assert [job.why_not for job in found] == ["", "", "", "weights absent", ""]
    assert found[3].composition is None
    assert found[3].absent.startswith(FILES["vgg16"].purpose)
    with pytest.raises(MissingWeightsError, match=r"row 1 \(uniform\): "):
        jobs(f"data.root={tmp_path}", conf=conf, scale="paper")


def test_the_rows_of_a_table_are_grouped_in_wandb_and_their_runs_stay_the_same(tmp_path):
    plain = jobs(only="uniform", seeds=2)[1]
    logged = jobs("logger=wandb", only="uniform", seeds=2)[1]
    settings = logged.composition.config["logger"]
    assert (settings["group"], settings["name"], settings["tags"]) == (TABLE, "uniform-seed1", ["gsq", "table01_codebook"])
    assert settings["name"] not in " ".join(plain.overrides)
    assert logged.overrides[: len(logged.overrides) - 3] == [*plain.overrides[:2], "logger=wandb", *plain.overrides[2:]]
    own = jobs("logger=wandb", "logger.group=mine", only="uniform")[0].composition.config["logger"]
    assert (own["group"], own["name"]) == ("mine", "uniform")


def test_a_table_is_no_single_run():
    with pytest.raises(ConfigError, match=r"holds several runs; python -m experiments.sweep table=gsq/table01_codebook runs them"):
        compose("train", [f"sweep={TABLE}"])
    with pytest.raises(ConfigError, match=r"holds several runs; python -m experiments.sweep table=TABLE runs them"):
        compose("train", [f"sweep={TABLE},gsq/table02_entropy"])
