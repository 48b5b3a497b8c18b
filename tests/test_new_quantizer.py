"""A new quantizer is two new files and no edit, here or in a package of its own: the contract tests find it, and it trains."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiments.config.packages import ROOT

NEW = ("tokenizer/quantizers/rounding.py", "conf/quantizer/rounding.yaml")


def example(name: str) -> str:
    """The block of code that follows a file's name."""
    found = re.search(rf"`{re.escape(name)}`:\n\n```\w+\n(.*?)```", (ROOT / ".github/CONTRIBUTING.md").read_text(), re.DOTALL)
    assert found, name
    return found[1]


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the repository with the two files of CONTRIBUTING.md."""
    copy = tmp_path_factory.mktemp("copy")
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("tokenizer", "experiments", "conf", "tests/quantizers"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    for file in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / file, copy / file)
    for name in NEW:
        assert not (copy / name).exists()
        (copy / name).write_text(example(name))
    return copy


def python(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", *words], cwd=copy, env=environment, capture_output=True, text=True, timeout=120)


def test_the_contract_tests_find_it(copy):
    done = python(copy, "pytest", "tests/quantizers/test_contract.py", "-k", "rounding", "-v", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed, \d+ deselected in", done.stdout)
    assert passed
    assert int(passed[1]) >= 15


def test_it_trains_by_its_own_shortcuts(copy):
    done = python(copy, "experiments.train", "quantizer=rounding", "levels=5", "scale=smoke", "updates=1")
    assert done.returncode == 0, done.stderr
    assert "codebook_size 5, groups 6, 13.9 bits per token" in done.stderr
    assert "has no effect" not in done.stderr
    (run,) = (copy / "runs" / "rounding").iterdir()
    assert yaml.safe_load((run / "config.yaml").read_text())["task"]["tokenizer"]["quantizer"]["levels"] == 5
    assert "codebook_usage" in done.stdout
    assert list((run / "checkpoints").iterdir())


def test_help_and_messages_know_it(copy):
    assert "rounding" in python(copy, "experiments.train", "--help").stdout
    assert "quantizer=rounding does not declare it" in python(copy, "experiments.train", "quantizer=rounding", "groups=4").stderr
    assert "nearest: `rounding`" in python(copy, "experiments.train", "quantizer=rounding2").stderr


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Path:
    """A folder outside the repository with a package `a_lab`, and configuration files for it in `files`."""
    lab = tmp_path_factory.mktemp("lab")
    (lab / "a_lab").mkdir()
    (lab / "a_lab" / "__init__.py").touch()
    (lab / "a_lab" / "rounding.py").write_text(example(NEW[0]))
    (lab / "files" / "quantizer").mkdir(parents=True)
    text = example(NEW[1]).replace("tokenizer.quantizers.rounding", "a_lab.rounding")
    (lab / "files" / "quantizer" / "rounding.yaml").write_text(text)
    return lab


def in_lab(lab: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{lab}", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", *words], cwd=lab, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_a_package_of_its_own_trains_and_is_imported_only_where_the_command_line_names_it(lab):
    words = ["experiments.train", "--config-dir", "files", "quantizer=rounding", "scale=smoke", "updates=1"]
    refused = in_lab(lab, *words)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "_target_=a_lab.rounding.RoundingQuantizer" in refused.stderr
    assert "plugins=[PACKAGE]" in refused.stderr
    done = in_lab(lab, *words, "plugins=[a_lab]")
    assert done.returncode == 0, done.stderr
    (run,) = (lab / "runs" / "rounding").iterdir()
    assert yaml.safe_load((run / "overrides.yaml").read_text())[0] == f"--config-dir={lab / 'files'}"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["plugins"], config["task"]["tokenizer"]["quantizer"]["_target_"]) == (["a_lab"], "a_lab.rounding.RoundingQuantizer")

    (lab / "a_lab" / "__init__.py").write_text("import pathlib; pathlib.Path('imported').touch()\n")
    evaluated = ["experiments.evaluate", f"model={run}", "workers=0"]
    refused = in_lab(lab, *evaluated)
    assert refused.returncode == 1
    assert "a_lab" in refused.stderr
    assert not (lab / "imported").exists()
    done = in_lab(lab, *evaluated, "plugins=[a_lab]")
    assert done.returncode == 0, done.stderr
    assert (lab / "imported").exists()


def test_help_and_messages_know_the_files_of_another_folder(lab):
    assert "rounding" in in_lab(lab, "experiments.train", "--config-dir", "files", "--help").stdout
    assert "nearest: `rounding`" in in_lab(lab, "experiments.train", "--config-dir=files", "quantizer=rounding2").stderr
