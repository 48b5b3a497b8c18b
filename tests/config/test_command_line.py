"""The command line of a verb: help, printing, one job or many, and which errors are one line."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiments.config import command_line, packages
from experiments.config.compose import main
from experiments.config.errors import ConfigError
from experiments.config.packages import ROOT
from tests.config.conf_files import write
from tokenizer.weights import MissingWeightsError


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(packages, "ROOT", tmp_path)
    return write(tmp_path)


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


def test_main_prints_one_line_and_never_runs_when_the_configuration_is_wrong(conf, monkeypatch, capsys):
    assert call(monkeypatch, conf, ["grups=3"], lambda composition: pytest.fail("ran")) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "key", "named"),
    [
        (["updates=5", "updates=6"], "updates", ["updates=5", "updates=6"]),
        (["updates=5", "updates=5"], "updates", ["updates=5"]),
        (["quantizer=gsq", "workers=0", "quantizer=gsq_small"], "quantizer", ["quantizer=gsq", "quantizer=gsq_small"]),
        (["+quantizer.decay=1", "quantizer.decay=2"], "quantizer.decay", ["+quantizer.decay=1", "quantizer.decay=2"]),
        (["~loss.weights.a", "loss.weights.a=2"], "loss.weights.a", ["~loss.weights.a", "loss.weights.a=2"]),
        (["-m", "updates=1,2", "updates=3"], "updates", ["updates=1,2", "updates=3"]),
        (["plan", "plan"], "plan", ["plan"]),
        (["plan", "plan=false"], "plan", ["plan", "plan=false"]),
        (["-cn", "train", "--config-name=probe"], "--config-name", ["--config-name=train", "--config-name=probe"]),
    ],
)
def test_a_key_that_is_set_twice_is_refused_with_both_words(words, key, named, conf, monkeypatch):
    monkeypatch.setenv("TESSERA_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["train", *words])
    with pytest.raises(ConfigError) as caught:
        main("train", lambda composition: pytest.fail("ran"), "Train.", conf)
    assert caught.value.key == key
    assert all(word in caught.value.reason for word in named)


def test_several_folders_of_configuration_files_are_no_key_that_is_set_twice(conf, monkeypatch, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    assert call(monkeypatch, conf, [word for folder in folders for word in ("--config-dir", str(folder))]) == 0


ENDINGS = [
    ("return 3", 3), ("sys.exit(143)", 143), ("sys.exit()", 0), ("sys.exit('no')", 1), ("raise KeyboardInterrupt", 130),
    ("raise TesseraError('refused')", 1), ("raise OSError('disk')", 1),
]  # fmt: skip


@pytest.mark.parametrize(("ending", "status"), ENDINGS)
def test_a_process_ends_with_its_status_and_output_and_without_destroying_modules(ending, status, conf):
    """A module that is destroyed prints; handlers of the exit run, and what is in the buffers is written."""
    code = f"""
import atexit, os, sys
from pathlib import Path
from experiments.config import packages
from experiments.config.compose import main
from experiments.config.errors import TesseraError

class Destroyed:
    def __del__(self, write=os.write): write(1, b"destroyed\\n")

module_global = Destroyed()
packages.ROOT = Path({str(conf.parent)!r})
def run(composition):
    atexit.register(lambda: print("handler"))
    print("work")
    {ending}

sys.argv = ["train"]
main("train", run, "Train.", Path({str(conf)!r}))
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == status, ended.stderr
    assert ended.stdout == "work\nhandler\n"
    assert ("Traceback" in ended.stderr) == ("OSError" in ending)


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
    assert "quantizer=fsq | gsq* | gsq_small" in text
    assert "optimizer@discriminator_optimizer=adam*" in text
    assert "gsq/good" in text
    line = next(line for line in text.splitlines() if line.strip().startswith("updates="))
    assert line.split() == ["updates=100", "generator", "steps"]
    status = text.partition("Exit status:")[2].partition("Examples:")[0]
    assert all(str(128 + number) in status for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM))


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
    assert ("quantizer=fsq* | gsq | gsq_small" in drawn, "quantizer=" in written) == (True, False)
    assert ("width=3" in drawn, "height=4" in written, "height" in drawn) == (True, True, False)
    assert "task=draw* | write" in drawn
    assert "  inner" not in drawn


def test_help_lists_the_choices_of_an_added_folder(conf, tmp_path, monkeypatch, capsys):
    write(tmp_path, {"mine/quantizer/other.yaml": "", "mine/experiment/new.yaml": ""})
    assert call(monkeypatch, conf, ["--help", "--config-dir", str(tmp_path / "mine")]) == 0
    text = capsys.readouterr().out
    assert "quantizer=fsq | gsq* | gsq_small | other" in text
    assert "gsq/typo | new" in text


@pytest.mark.parametrize("option", [["--cfg", "job"], ["--cfg=job"], ["-c", "job"]])
def test_the_printed_configuration_is_yaml_with_or_without_interpolations(option, conf, monkeypatch, capsys):
    assert call(monkeypatch, conf, [*option, "groups=4"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["quantizer"]["groups"] == "${divisor_of:groups,latent_dim}"
    assert call(monkeypatch, conf, [*option, "--resolve", "groups=4"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["quantizer"]["groups"] == 4


@pytest.mark.parametrize("words", [["--gpus"], ["--gpus", "2"], ["--cfg"], ["--cfg", "all"]])
def test_a_wrong_option_is_one_line_that_lists_the_options(words, conf, monkeypatch, capsys):
    assert call(monkeypatch, conf, words) == 1
    text = capsys.readouterr().err
    assert (text.count("\n"), command_line.OPTIONS in text, words[0] in text) == (1, True, True)


def test_another_main_file_can_be_chosen(conf, monkeypatch):
    (conf / "mine.yaml").write_text((conf / "train.yaml").read_text().replace("updates: 100", "updates: 5"))
    seen = []
    for option in (["-cn", "mine"], ["--config-name=mine"]):
        assert call(monkeypatch, conf, option, lambda composition: seen.append(composition.settings.updates)) == 0
    assert seen == [5, 5]


def test_an_error_of_the_work_names_the_key_that_sets_the_argument(conf, monkeypatch, capsys):
    def refused(composition):
        raise ConfigError("task.quantizer.groups", 16, expected="8")

    assert call(monkeypatch, conf, [], refused) == 1
    assert capsys.readouterr().err == "error: groups=16: expected 8; change `groups`\n"


def test_multirun_starts_nothing_when_one_job_is_wrong(conf, monkeypatch, capsys):
    monkeypatch.setattr(command_line, "run_process", lambda command: pytest.fail("started"))
    assert call(monkeypatch, conf, ["-m", "groups=4,7"]) == 1
    assert capsys.readouterr().err.startswith("error: job 2 of 2 (groups=7), none was started: groups=7: does not divide")


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
    assert commands == [["-m", "experiments.sweep", "table=gsq/table01", "seeds=2", f"groups={groups}"] for groups in (4, 8)]
    assert call(monkeypatch, conf, ["sweep=gsq/table01"]) == 1
    assert "python -m experiments.sweep table=gsq/table01 runs them" in capsys.readouterr().err


def test_a_configuration_is_printed_of_one_run_alone(conf, monkeypatch, capsys):
    assert call(monkeypatch, conf, ["--multirun", "sweep=gsq/table01", "--cfg", "job"]) == 1
    assert capsys.readouterr().err.startswith("error: --cfg: prints the configuration of one run; leave out --multirun")


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
