"""Verbs whose settings are one file without groups: their own keys, words without a key, and what is handed on to every row."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.config.compose import compose
from experiments.config.errors import ConfigError
from experiments.config.packages import CONF, ROOT
from tests.config.conf_files import write

FILES = {
    "conf/sweep.yaml": (CONF / "sweep.yaml").read_text(),
    "conf/scale/mini.yaml": "",
    "conf/scale/paper.yaml": "",
    "conf/sweep/gsq/table01_codebook.yaml": "",
    "conf/sweep/gsq/table02_entropy.yaml": "",
}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return write(tmp_path, FILES)


def test_own_keys_are_settings_and_the_rest_is_handed_on_in_its_order(conf):
    words = ["gsq/table01_codebook", "plan", "seeds=3", "only=[a,b]", "slurm.timeout_min=5", "slurm.partition=gpu", "scale=paper"]
    composition = compose("sweep", [*words, "data.root=x", "logger=wandb", "launcher=slurm", "+a.b=[1,2]", f"--config-dir={conf}"], conf)
    settings = composition.settings
    assert (settings.table, settings.scale, settings.seeds, settings.plan) == ("gsq/table01_codebook", "paper", 3, True)
    assert (settings.only, settings.launcher) == (["a", "b"], "slurm")
    assert (settings.slurm.partition, settings.slurm.timeout_min, settings.slurm.gpus_per_node) == ("gpu", 5, 1)
    assert composition.others == (f"--config-dir={conf}", "data.root=x", "logger=wandb", "+a.b=[1,2]")


def test_defaults_hold_where_nothing_is_set_and_one_name_is_a_list(conf):
    settings = compose("sweep", ["table=gsq/table01", "only=a"], conf).settings
    assert (settings.table, settings.scale, settings.seeds, settings.only, settings.plan) == ("gsq/table01", "mini", 1, ["a"], False)
    assert compose("sweep", ["gsq/table01", "only=null"], conf).settings.only is None


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ([], {"key": "table", "reason": "is required"}),
        (["gsq/table01", "paln"], {"key": "paln", "expected": "key=value or plan", "nearest": "plan"}),
        (["table=gsq/table01", "gsq/table02"], {"key": "gsq/table02", "expected": "key=value or plan"}),
        (["gsq/table01", "seeds=many"], {"key": "seeds", "value": "many", "expected": "a whole number"}),
        (["gsq/table01", "seeds=0"], {"key": "seeds", "value": 0, "expected": "a number of at least 1"}),
        (["gsq/table01", "plan=yes"], {"key": "plan", "value": "yes", "expected": "true or false"}),
        (["gsq/table01", "slurm.timeout_min=1.5"], {"key": "slurm.timeout_min", "value": 1.5, "expected": "a whole number"}),
        (["gsq/table01", "scale=minni"], {"key": "scale", "value": "minni", "expected": "one of mini, paper", "nearest": "mini"}),
        (["gsq/table01", "launcher=slrum"], {"key": "launcher", "value": "slrum", "nearest": "slurm"}),
        (["gsq/table01", "only=a,b"], {"key": "only", "value": "a,b", "reason": "several values"}),
        (["gsq/table01", "only=[]"], {"key": "only", "expected": "at least 1 of them"}),
    ],
)
def test_a_wrong_word_is_one_error_with_the_nearest_right_one(words, fields, conf):
    with pytest.raises(ConfigError) as caught:
        compose("sweep", words, conf)
    assert {name: getattr(caught.value, name) for name in fields} == fields


def test_a_block_of_settings_is_not_itself_one(conf):
    assert compose("sweep", ["gsq/table01", "slurm=3"], conf).others == ("slurm=3",)


def test_a_verb_without_tables_hands_nothing_on():
    assert compose("weights", ["fetch", "vgg16"]).settings.name == "vgg16"
    with pytest.raises(ConfigError) as caught:
        compose("weights", ["namee=vgg16"])
    assert (caught.value.key, caught.value.nearest) == ("namee", "name")


@pytest.mark.parametrize("verb", ["sweep", "report", "weights"])
def test_help_lists_tables_and_settings_and_loads_nothing_heavy(verb):
    command = [sys.executable, "-X", "importtime", "-m", f"experiments.{verb}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ("gsq/table01_codebook" in done.stdout) == (verb != "weights")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    expected = {
        "sweep": "slurm.cpus_per_task=8",
        "report": "format=terminal format of the printed report: terminal | markdown | csv | latex",
    }
    assert expected.get(verb, "Settings:") in lines
    assert not any(line.startswith(("slurm=", "table=???")) for line in lines)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert imported & {"torch", "hydra", "pydantic", "lightning", "submitit"} == set()
