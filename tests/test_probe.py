"""The verb probe from command to report, on two tokenizers of two updates each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import probe
from experiments.config.compose import compose
from experiments.config.errors import ConfigError
from experiments.config.packages import ROOT
from experiments.evaluation.protocol import protocol_id, result_folder
from experiments.probing import study
from experiments.runs.folder import RunFolder
from experiments.training.loop import train

QUICK = [
    "workers=0", "samples=24", "guidance.samples=12", "linear.epochs=4", "linear.warmup_epochs=1",
    "training.settings.updates=2", "training.settings.validate_every=2", "training.settings.checkpoint_every=2",
    "training.groups={transformer@generator_size:mini_s}",
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory) -> list[Path]:
    """One code a token, and two of them; the folder of runs is two above."""
    runs = tmp_path_factory.mktemp("runs")
    for words in (["quantizer=gsq", "groups=1", "codebook_size=16"], ["quantizer=gsq", "groups=2", "codebook_size=16"]):
        config = compose("train", ["scale=smoke", "data=digits", "discriminator=none", *words, f"runs_folder={runs}"]).config
        assert train(config, words, "tok") == 0
    return sorted((runs / "tok").iterdir())


def words_for(tokenizers: list[Path], *more: str) -> list[str]:
    listed = ",".join(map(str, tokenizers))
    return [f"tokenizer=[{listed}]", f"runs_folder={tokenizers[0].parent.parent}", *QUICK, *more]


def files_of_work(runs: Path) -> dict[Path, int]:
    """When each file was written, but for those of reports and of results that are put together from stored ones."""
    again = {path.parent for pattern in ("probes/*/report.md", "*/*/evaluations/probe-*/result.json") for path in runs.glob(pattern)}
    return {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file() and path.parent not in again}


@pytest.mark.slow
def test_two_tokenizers_are_probed_once_and_a_second_call_only_prints(tokenizers, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    runs = tokenizers[0].parent.parent
    assert probe.run(compose("probe", words_for(tokenizers))) == 0
    printed = capsys.readouterr().out
    for tokenizer in tokenizers:
        assert sum(line.startswith(f"tok/{tokenizer.name}: ") for line in printed.splitlines()) == 1
    (report,) = runs.glob("probes/*/report.md")
    folder = result_folder(compose("probe", words_for(tokenizers)).config, "small")
    found = [json.loads((tokenizer / "evaluations" / folder / "result.json").read_text()) for tokenizer in tokenizers]
    protocol = protocol_id(compose("probe", words_for(tokenizers)).config, "small")
    expected = {"val/psnr", "probe/nll", "probe/bits_per_pixel", "probe/frechet_digits", "probe/class_accuracy", "probe/guidance"}
    for each in found:
        assert (each["state"], each["protocol"]) == ("done", protocol)
        assert {key for key, card in each["cards"].items() if card.get("protocol") == protocol} == {
            key for key in each["cards"] if key.startswith("probe/")
        }
        assert each["cards"]["probe/nll"]["subject"] == each["cards"]["probe/frechet_digits"]["subject"] == "raw"
        assert each["seconds"] > 0
        assert expected | {"probe/acc1", "probe/tokenizer_acc1"} <= set(each["metrics"])
        assert set(each["cards"]) == set(each["metrics"])
        assert "probe/gfid" in each["skipped"]
        assert [trial["n"] for trial in each["guidance_trials"]] == [12] * (len(each["guidance_trials"]) - 1) + [24]
    generators = [RunFolder(path) for path in runs.glob("ar/*")]
    assert [run.state for run in generators] == ["done", "done"]
    assert {path.name for path in report.parent.iterdir()} == {"report.md", "report.csv", "plot.png"}
    files = files_of_work(runs)
    monkeypatch.setattr(study, "run_training", lambda *given: pytest.fail("it trained again"))
    assert probe.run(compose("probe", words_for(tokenizers))) == 0
    assert capsys.readouterr().out == printed
    assert files == files_of_work(runs)
    _a_failed_training_is_named_and_the_others_continue(tokenizers, monkeypatch, capsys)


def _a_failed_training_is_named_and_the_others_continue(tokenizers, monkeypatch, capsys):
    """The second tokenizer is known from before; the training of the first, with another seed, ends with an error."""

    def fail(overrides, output):
        raise ConfigError("its training ended with status 1: out of memory")

    monkeypatch.setattr(study, "run_training", fail)
    assert probe.run(compose("probe", words_for(tokenizers[:1], "seed=1"))) == 1
    printed = capsys.readouterr().out
    assert "failed: its training ended with status 1: out of memory" in printed
    assert "PSNR" in printed


def test_a_command_that_cannot_be_run_is_one_message_before_torch(tmp_path):
    command = [sys.executable, "-m", "experiments.probe", f"tokenizer={tmp_path}/nothing", "image_size=32"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: tokenizer={tmp_path}/nothing: expected ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "override",
    [
        "samples=1", "guidance.schedule=linaer", "guidance.start=0.5", "guidance.step=0", "guidance.floor=-3", "guidance.unguided=2",
        "linear.warmup_epochs=91", "linear.epochs=many", "linear.learning_rate=-1", "linear.momentum=1", "linear.trust=0", "device=tpu",
        "training.groups.generator=ar_b",
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(override):
    with pytest.raises(ConfigError) as caught:
        probe.run(compose("probe", ["tokenizer=nothing", "image_size=32", override]))
    assert f"{caught.value.key}={caught.value.value}" == override
