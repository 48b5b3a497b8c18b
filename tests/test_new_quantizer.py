"""A quantizer of one's own is two new files and no edit: the contract tests find it, and it trains."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiments.config.signatures import ROOT

NEW = ("tokenizer/quantizers/rounding.py", "conf/quantizer/rounding.yaml")


def shown_in_readme(name: str) -> str:
    """The block of code that follows a file's name."""
    found = re.search(rf"`{re.escape(name)}`:\n\n```\w+\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found, name
    return found[1]


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A copy of the house with the two files of the README."""
    house = tmp_path_factory.mktemp("house")
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("tokenizer", "experiments", "conf", "tests/quantizers"):
        shutil.copytree(ROOT / folder, house / folder, ignore=ignore)
    for file in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / file, house / file)
    for name in NEW:
        assert not (house / name).exists()
        (house / name).write_text(shown_in_readme(name))
    return house


def python(house: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", *words], cwd=house, env=environment, capture_output=True, text=True, timeout=120)


def test_the_contract_tests_find_it(house):
    done = python(house, "pytest", "tests/quantizers/test_contract.py", "-k", "rounding", "-v", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed, \d+ deselected in", done.stdout)
    assert passed
    assert int(passed[1]) >= 15


def test_it_trains_by_its_own_shortcuts(house):
    done = python(house, "experiments.train", "quantizer=rounding", "levels=5", "scale=smoke", "updates=1")
    assert done.returncode == 0, done.stderr
    assert "codebook_size 5, groups 6, 13.9 bits per token" in done.stderr
    assert "loss.weights.codebook has no effect" in done.stderr
    (run,) = (house / "runs" / "rounding").iterdir()
    assert yaml.safe_load((run / "config.yaml").read_text())["task"]["tokenizer"]["quantizer"]["levels"] == 5
    assert "codebook_usage" in done.stdout
    assert list((run / "checkpoints").iterdir())


def test_help_and_messages_know_it(house):
    assert "rounding" in python(house, "experiments.train", "--help").stdout
    assert "quantizer=rounding does not declare it" in python(house, "experiments.train", "quantizer=rounding", "groups=4").stderr
    assert "nearest: `rounding`" in python(house, "experiments.train", "quantizer=rounding2").stderr
