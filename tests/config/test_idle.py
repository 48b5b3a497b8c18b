"""Settings of a command line that change nothing are named once; values of files are not."""

import logging
import sys

import pytest

from experiments.config import packages
from experiments.config.compose import compose, main
from experiments.config.idle import report_idle, unread
from tests.config.conf_files import write


def named(caplog) -> list[tuple]:
    return [record.args for record in caplog.records if record.name == "experiments.config.idle"]


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        (["discriminator=none", "discriminator_input_size=56"], {"discriminator_input_size"}),
        (["width=64", "depth=2", "groups=4", "quantizer.ties=lowest", "data.cuts_per_picture=1", "updates=3"], set()),
        (["optimizer@discriminator_optimizer=adamw", "optimizer.betas=[0.5,0.9]", "optimizer.learning_rate=1"], set()),
    ],
)
def test_a_key_that_nothing_reads_is_found(words, idle):
    composition = compose("train", words)
    assert set(unread(composition.draft, composition.settings)) == idle


def test_a_key_that_nothing_reads_is_named_once_on_the_command_line(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(packages, "ROOT", tmp_path)
    conf = write(tmp_path)
    (conf / "train.yaml").write_text((conf / "train.yaml").read_text() + "spare: 1\n")
    monkeypatch.setattr(sys, "argv", ["train", "spare=2", "updates=9"])
    with caplog.at_level(logging.WARNING, "experiments"), pytest.raises(SystemExit) as ended:
        main("train", lambda composition: None, "Train.", conf)
    assert ended.value.code == 0
    assert named(caplog) == [("spare", "nothing in this configuration reads it")]


def test_only_what_the_command_line_sets_is_named(caplog):
    with caplog.at_level(logging.WARNING, "experiments"):
        report_idle(["+a.b=1", "updates=2", "--config-dir=x", "plan"], {"a": "there is no a", "c": "there is no c"})
    assert named(caplog) == [("a.b", "there is no a")]
