"""Every command and every line of Python in the README is run here, at smoke scale."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from skimage import data

from experiments import evaluate, export, generate, report, sweep, tokenize, train
from experiments.config import command_line
from experiments.config.compose import CONF, compose, expand, main
from experiments.config.packages import ROOT
from experiments.sweeps.jobs import compose_jobs
from experiments.tables.reading import read_sweep
from experiments.training.loop import train as train_run
from tokenizer.weights import FILES

README = (ROOT / "README.md").read_text()
VERBS = {"train": train, "evaluate": evaluate, "export": export, "tokenize": tokenize, "generate": generate}
SMOKE = ["scale=smoke", "updates=1", "loss.weights.perceptual=0", "trainer.precision=32-true"]
EXTRA = {"evaluate": ["workers=0"], "tokenize": ["workers=0"], "generate": ["n=20", "shown=10", "workers=0"]}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [
        line.partition(" #")[0].strip() for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()
    ]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a trained run, images and ImageNet's layout, under the names that the README uses."""
    from PIL import Image

    place = tmp_path_factory.mktemp("place")
    image = Image.fromarray(data.astronaut()).resize((256, 256))
    for name in ("photos/a.png", "photos/b.png", "IMAGENET/train/cat/a.png", "IMAGENET/val/cat/b.png"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(place / name)
    image.save(place / "photo.jpg")
    words = ["scale=smoke", f"runs_folder={place / 'runs'}"]
    assert train_run(compose("train", words).config, words, "gsq") == 0
    rename(place / "runs/gsq")
    make_digits(place)
    return place


def make_digits(place: Path) -> None:
    """A tokenizer of digits, their tokens and a generator, each after one update."""
    few = ["updates=1", "workers=0", f"runs_folder={place / 'runs'}"]
    composition = compose("train", ["experiment=digits/tokenizer", *few])
    assert train_run(composition.config, composition.overrides, "digits/tokenizer") == 0
    folder, tokens = rename(place / "runs/digits/tokenizer"), place / "runs/digits.safetensors"
    assert tokenize.run(compose("tokenize", [f"tokenizer={folder}", "data=digits", f"output={tokens}", "workers=0"])) == 0
    composition = compose("train", ["experiment=digits/generator", f"data.file={tokens}", *few])
    assert train_run(composition.config, composition.overrides, "digits/generator") == 0
    rename(place / "runs/digits/generator")


def rename(folder: Path) -> Path:
    """The one run below a folder, under the README's name for it."""
    (run,) = folder.iterdir()
    return run.rename(folder / "RUN")


@pytest.mark.parametrize("command", [c for c in commands() if re.search(rf"experiments\.({'|'.join(VERBS)})", c)])
def test_a_command_runs_as_the_readme_states(command, place, monkeypatch):
    monkeypatch.chdir(place)
    python, option, module, *words = shlex.split(command)
    assert (python, option) == (".venv/bin/python", "-m")
    verb = module.removeprefix("experiments.")
    jobs = expand([word for word in words if word != "-m"])
    assert (len(jobs) > 1) == ("-m" in words)
    for job in jobs:
        extra = EXTRA.get(verb, [])
        if verb == "train":
            extra = ["workers=0", *(["updates=1"] if "experiment=digits/generator" in job else SMOKE)]
        extra += ["data=image_folder"] * any(word.startswith("data.root=") for word in job)
        assert VERBS[verb].run(compose(verb, [*job, *extra])) == 0


@pytest.mark.parametrize("command", [c for c in commands() if re.search(r"experiments\.(sweep|report)", c)])
def test_a_command_over_a_table_runs_as_the_readme_states(command, place, monkeypatch, random_weights, capsys):
    """Rows are composed as by the command and not run; tests/sweeps runs them."""
    monkeypatch.chdir(place)
    verb, *words = shlex.split(command.partition("experiments.")[2])
    composition = compose(verb, words)
    settings = composition.settings
    if verb == "report" or settings.plan:
        assert {"report": report, "sweep": sweep}[verb].run(composition) == 0
        assert "sphere_l2" in capsys.readouterr().out
    else:
        table = read_sweep(settings.table, CONF)
        jobs = compose_jobs(table, settings.scale, range(settings.seeds), composition.others)
        assert len(jobs) == len(table.runs) * settings.seeds


def test_multirun_over_a_table_is_passed_to_the_verb_sweep(monkeypatch):
    commands = []
    monkeypatch.setattr(command_line, "run_process", lambda command: commands.append(command) or 0)
    monkeypatch.setattr(sys, "argv", ["train", "--multirun", "sweep=gsq/table01_codebook"])
    with pytest.raises(SystemExit) as caught:
        main("train", lambda composition: pytest.fail("one run"), "Train.")
    assert caught.value.code == 0
    ((*started, name),) = commands
    assert started == [sys.executable, "-m", "experiments.sweep"]
    composition = compose("sweep", [name])
    assert composition.others == ()
    settings = composition.settings
    jobs = compose_jobs(read_sweep(settings.table, CONF), settings.scale, range(settings.seeds))
    assert [job.composition.config["seed"] for job in jobs] == [0] * 5


def test_the_python_example_runs_on_an_export(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert export.run(compose("export", ["run=runs/gsq/RUN"])) == 0
    (example,) = [block for block in blocks("python") if "from_pretrained" in block]
    exec(compile(example, "README.md", "exec"), {})
    assert "torch.Size([1, 1024, 16])" in capsys.readouterr().out
    assert (place / "reconstruction.png").is_file()


def test_the_weights_that_the_readme_fetches_are_known():
    names = [command.split()[-1] for command in commands() if "experiments.weights fetch" in command]
    assert names
    assert set(names) <= set(FILES)


def test_the_targets_that_the_readme_makes_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {command.split()[1] for command in commands() if command.startswith("make ")}
    assert {"demo", "test"} <= named <= targets


def test_the_table_of_methods_names_files_and_configurations_that_exist(place, monkeypatch, random_weights):
    monkeypatch.chdir(place)
    rows = [line.split("|")[1:-1] for line in README.splitlines() if line.startswith("|") and "arxiv.org" in line]
    assert len(rows) >= 8
    for _, _, code, configuration in rows:
        assert (ROOT / code.strip().strip("`")).is_file()
        for words in re.findall(r"`([^`]+)`", configuration):
            settings = words.split() if "=" in words else [f"backbone={words}"]
            if settings[0].startswith("protocol="):
                compose("probe", [*settings, "tokenizer=runs/gsq/RUN"])
            else:
                compose("train", [*settings, "data.file=runs/digits.safetensors"] if "task=generator" in settings else settings)


def test_the_probe_of_the_text_composes(place, monkeypatch):
    monkeypatch.chdir(place)
    (command,) = [command for command in commands() if "experiments.probe" in command]
    for name in "ABC":
        (place / "runs/digits/tokenizer" / name).symlink_to("RUN")
    assert len(compose("probe", [command.split()[-1]]).config["tokenizer"]) == 3
