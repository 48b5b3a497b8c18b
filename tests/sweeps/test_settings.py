"""The words of a verb over tables: its settings, the table, and what belongs to every row's training."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from experiments.config.errors import ConfigError
from experiments.config.signatures import CONF, ROOT
from experiments.sweeps.settings import help_text, main, read_settings

FILES = {
    "verb.yaml": """
        table: ???                  # a table
        scale: mini
        seeds: 1                    # how many
        only: null
        plan: false                 # start nothing
        launcher: local
        slurm:                      # of launcher=slurm
          partition: null           # of the cluster
          minutes: 60
        """,
    "scale/mini.yaml": "",
    "scale/paper.yaml": "",
    "sweep/gsq/table01_codebook.yaml": "",
    "sweep/gsq/table02_entropy.yaml": "",
}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text).lstrip())
    return tmp_path


def read(conf, *words):
    return read_settings("verb", list(words), conf, {"launcher": ("local", "slurm")})


def test_own_words_are_settings_of_their_type_and_the_rest_is_handed_on_in_its_order(conf):
    words = ["gsq/table01_codebook", "plan", "seeds=3", "only=a,b", "slurm.minutes=5", "slurm.partition=gpu", "scale=paper"]
    settings, others = read(conf, *words, "data.root=x=y", "logger=wandb", "launcher=slurm")
    assert settings == {
        "table": "gsq/table01_codebook", "scale": "paper", "seeds": 3, "only": "a,b", "plan": True, "launcher": "slurm",
        "slurm": {"partition": "gpu", "minutes": 5},
    }  # fmt: skip
    assert others == ["data.root=x=y", "logger=wandb"]


def test_defaults_hold_where_nothing_is_said(conf):
    settings, others = read(conf, "gsq/table01", "only=null")
    assert (settings["table"], settings["scale"], settings["seeds"], settings["only"], settings["plan"]) == (
        "gsq/table01",
        "mini",
        1,
        None,
        False,
    )
    assert others == []


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["name a table", "experiments.verb gsq/table01_codebook", "gsq/table02_entropy"]),
        (["gsq/tabel02_entropy"], ["gsq/tabel02_entropy: there is no such table", "nearest: `gsq/table02_entropy`"]),
        (["gsq/table01", "paln"], ["paln: expected key=value or plan", "nearest: `plan`"]),
        (["gsq/table01", "gsq/table02"], ["gsq/table02", "the table is gsq/table01"]),
        (["gsq/table01", "seeds=many"], ["seeds=many", "a whole number (int) of at least 1", "change `seeds`"]),
        (["gsq/table01", "seeds=0"], ["seeds=0", "at least 1"]),
        (["gsq/table01", "plan=yes"], ["plan=yes", "true or false"]),
        (["gsq/table01", "slurm.minutes=1.5"], ["slurm.minutes=1.5", "a whole number"]),
        (["gsq/table01", "scale=minni"], ["scale=minni", "one of mini, paper", "nearest: `mini`"]),
        (["gsq/table01", "launcher=slrum"], ["launcher=slrum", "one of local, slurm", "nearest: `slurm`"]),
        (["gsq/table01", "--plan"], ["--plan: unknown option"]),
    ],
)
def test_a_wrong_word_is_one_message_with_the_nearest_right_one(words, parts, conf):
    with pytest.raises(ConfigError) as caught:
        read(conf, *words)
    for part in parts:
        assert part in str(caught.value)


def test_a_block_of_settings_is_not_itself_one(conf):
    assert read(conf, "gsq/table01", "slurm=3")[1] == ["slurm=3"]


def test_help_lists_tables_and_settings_with_their_comments(conf):
    text = help_text("verb", "Does it.", conf)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for line in ("gsq/table01_codebook gsq/table02_entropy", "seeds=1 how many", "slurm.partition=null of the cluster", "slurm.minutes=60"):
        assert line in lines
    assert not any(line.startswith("slurm=") for line in lines)


def test_main_hands_settings_and_words_over_and_passes_the_status_on(conf, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["verb", "gsq/table01", "seed_of=7"])
    with pytest.raises(SystemExit) as caught:
        main("verb", lambda settings, others: 7 if others == ["seed_of=7"] else 0, "Does it.", config_dir=conf)
    assert caught.value.code == 7
    monkeypatch.setattr(sys, "argv", ["verb", "nothing"])
    with pytest.raises(SystemExit) as caught:
        main("verb", lambda settings, others: pytest.fail("ran"), "Does it.", config_dir=conf)
    assert caught.value.code == 1
    assert capsys.readouterr().err.startswith("error: nothing: there is no such table")


def test_help_of_the_sweep_loads_no_torch():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "experiments.sweep", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert "gsq/table01_codebook" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert imported & {"torch", "hydra", "lightning", "submitit"} == set()
    assert "experiments.sweeps.settings" in imported


def test_the_files_of_the_verbs_are_read(monkeypatch):
    settings, _ = read_settings("sweep", ["gsq/table01"], CONF)
    assert (settings["scale"], settings["launcher"], settings["slurm"]["gpus_per_node"]) == ("mini", "local", 1)
