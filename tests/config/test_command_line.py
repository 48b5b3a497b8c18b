"""The command line of a verb: help, printing, one job or many, and which errors are one line."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from experiments.config import command_line
from experiments.config.compose import main
from experiments.config.errors import ConfigError
from experiments.config.signatures import ROOT
from tokenizer.weights import MissingWeightsError

FILES = {
    "train.yaml": """
        defaults:
          - _self_
          - quantizer: gsq
          - optimizer@discriminator_optimizer: adam
          - experiment: null
        seed: 0
        updates: 100          # generator steps
        """,
    "quantizer/gsq.yaml": """
        # @package _global_
        groups: 16
        latent_dim: 64
        quantizer:
          groups: ${divisor_of:groups,latent_dim}
        """,
    "quantizer/fsq.yaml": "latent_dim: 4",
    "optimizer/adam.yaml": "clip: 2.0",
    "experiment/gsq/good.yaml": """
        # @package _global_
        updates: 7
        """,
}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text).lstrip())
    return tmp_path


def call(monkeypatch, conf, words, run=lambda composition: None):
    monkeypatch.setattr(sys, "argv", ["train", *words])
    with pytest.raises(SystemExit) as caught:
        main("train", run, "Train one tokenizer.", conf)
    return caught.value.code


def test_main_hands_the_composition_over_and_passes_the_status_on(conf, monkeypatch):
    seen = []
    assert call(monkeypatch, conf, ["updates=9"], lambda composition: seen.append(composition.config["updates"])) == 0
    assert call(monkeypatch, conf, [], lambda composition: 3) == 3
    assert seen == [9]


def test_main_says_one_line_and_never_runs_when_the_configuration_is_wrong(conf, monkeypatch, capsys):
    assert call(monkeypatch, conf, ["grups=3"], lambda composition: pytest.fail("ran")) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError("invalid"), NotImplementedError("step"), OSError("disk")])
def test_any_other_error_is_a_bug_and_keeps_its_traceback(error, conf, monkeypatch):
    def broken(composition):
        raise error

    monkeypatch.setattr(sys, "argv", ["train"])
    with pytest.raises(type(error)) as caught:
        main("train", broken, "Train.", conf)
    assert caught.value is error


@pytest.mark.parametrize("error", [ConfigError("groups", 3, expected="4"), MissingWeightsError("no vgg16")])
def test_an_error_that_a_user_can_correct_is_one_line_and_its_traceback_is_an_option(error, conf, monkeypatch, capsys):
    def refused(composition):
        raise error

    assert call(monkeypatch, conf, [], refused) == 1
    assert capsys.readouterr().err == f"error: {error}\n"
    monkeypatch.setenv("TESSERA_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["train"])
    with pytest.raises(type(error)):
        main("train", refused, "Train.", conf)


def test_an_interrupted_run_ends_with_130(conf, monkeypatch):
    def interrupted(composition):
        raise KeyboardInterrupt

    assert call(monkeypatch, conf, [], interrupted) == 130


def test_help_lists_groups_with_choices_and_settings_with_comments(conf, monkeypatch, capsys):
    assert call(monkeypatch, conf, ["--help"]) == 0
    text = capsys.readouterr().out
    assert "quantizer=fsq | gsq*" in text
    assert "optimizer@discriminator_optimizer=adam*" in text
    assert "gsq/good" in text
    line = next(line for line in text.splitlines() if line.strip().startswith("updates="))
    assert line.split() == ["updates=100", "generator", "steps"]


def test_help_shows_the_groups_and_settings_of_the_chosen_task(conf, monkeypatch, capsys):
    for name, group, setting in (("draw", "quantizer: fsq", "width: 3   # of a line"), ("write", "optimizer: adam", "height: 4")):
        (conf / "task").mkdir(exist_ok=True)
        text = f"# @package _global_\ndefaults:\n  - _self_\n  - /{group}\n{setting}\n{name}:\n  inner: 1\n"
        (conf / "task" / f"{name}.yaml").write_text(text)
    (conf / "train.yaml").write_text("defaults:\n  - _self_\n  - task: draw\n  - experiment: null\nseed: 0\n")
    assert call(monkeypatch, conf, ["--help"]) == 0
    drawn = capsys.readouterr().out
    assert call(monkeypatch, conf, ["task=write", "--help"]) == 0
    written = capsys.readouterr().out
    assert ("quantizer=fsq* | gsq" in drawn, "quantizer=" in written) == (True, False)
    assert ("width=3" in drawn, "height=4" in written, "height" in drawn) == (True, True, False)
    assert "task=draw* | write" in drawn
    assert "  inner" not in drawn
    assert call(monkeypatch, conf, ["width=wide"]) == 1
    assert "width=wide: expected a whole number" in capsys.readouterr().err


def test_the_printed_configuration_is_yaml_with_or_without_interpolations(conf, monkeypatch, capsys):
    assert call(monkeypatch, conf, ["--cfg", "job", "groups=4"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["quantizer"]["groups"] == "${divisor_of:groups,latent_dim}"
    assert call(monkeypatch, conf, ["--cfg", "job", "--resolve", "groups=4"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["quantizer"]["groups"] == 4


def test_an_unknown_option_is_refused(conf, monkeypatch, capsys):
    assert call(monkeypatch, conf, ["--gpus"]) == 1
    assert "--gpus: unknown option" in capsys.readouterr().err


def test_multirun_starts_nothing_when_one_job_is_wrong(conf, monkeypatch, capsys):
    monkeypatch.setattr(command_line, "run_process", lambda command: pytest.fail("started"))
    assert call(monkeypatch, conf, ["-m", "groups=4,7"]) == 1
    assert "job 2 of 2 (groups=7), none was started: groups=7 does not divide" in capsys.readouterr().err


def test_multirun_goes_on_after_a_failed_job_and_fails_in_the_end(conf, monkeypatch, capsys):
    commands = []
    monkeypatch.setattr(command_line, "run_process", lambda command: commands.append(command[1:]) or int("groups=4" in command))
    assert call(monkeypatch, conf, ["--multirun", "groups=4,8", "seed=1"]) == 1
    assert commands == [["-m", "experiments.train", f"groups={groups}", "seed=1"] for groups in (4, 8)]
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["[1/2] groups=4", "[2/2] groups=8", "failed (exit 1)   groups=4", "done              groups=8"]


def test_multirun_of_a_table_is_the_verb_sweep(conf, monkeypatch, capsys):
    commands = []
    monkeypatch.setattr(command_line, "run_process", lambda command: commands.append(command[1:]) or 1)
    assert call(monkeypatch, conf, ["--multirun", "sweep=gsq/table01", "seed=0,1", "groups=4,8"]) == 1
    assert commands == [["-m", "experiments.sweep", "gsq/table01", "seeds=2", f"groups={groups}"] for groups in (4, 8)]
    assert call(monkeypatch, conf, ["sweep=gsq/table01"]) == 1
    assert "python -m experiments.sweep gsq/table01 runs them" in capsys.readouterr().err


def test_a_configuration_is_printed_of_one_run_alone(conf, monkeypatch, capsys):
    assert call(monkeypatch, conf, ["--multirun", "sweep=gsq/table01", "--cfg", "job"]) == 1
    assert capsys.readouterr().err.startswith("error: --cfg prints the configuration of one run: leave out --multirun")


def test_a_job_runs_in_a_process_of_its_own_and_its_status_comes_back():
    assert command_line.run_process([sys.executable, "-c", "raise SystemExit(5)"]) == 5


def test_a_request_to_end_reaches_the_job_and_ends_the_sweep():
    job = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); print('up', flush=True); time.sleep(20)"
    code = (
        f"import sys; from experiments.config.command_line import run_process; run_process([sys.executable, '-c', {job!r}]); print('next')"
    )
    sweep = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert sweep.stdout is not None
    assert sweep.stdout.readline() == "up\n"
    sweep.terminate()
    assert sweep.communicate(timeout=10)[0] == ""
    assert sweep.returncode == 128 + signal.SIGTERM
