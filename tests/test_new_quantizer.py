"""A quantizer of one's own is two new files and no edit: the contract tests find it, and it trains."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiments.signatures import ROOT

MODULE = '''"""Rounding: every channel of a token to the nearest of a few levels, one index a channel."""

from torch import Tensor

from tokenizer.interfaces import Quantizer, QuantizerOutput
from tokenizer.quantizers.checks import require_at_least, require_indices, require_width
from tokenizer.quantizers.straight_through import straight_through


class RoundingQuantizer(Quantizer):
    """Nothing to learn; levels lie evenly in [-1, 1]."""

    def __init__(self, latent_dim: int, levels: int) -> None:
        """Set the grid."""
        super().__init__()
        require_at_least("levels", levels, 2)
        self.latent_dim = self.groups = latent_dim
        self.codebook_size = levels

    def reset_parameters(self) -> None:
        """Nothing."""

    def forward(self, latents: Tensor) -> QuantizerOutput:
        """(B, N, D) to indices (B, N, D)."""
        require_width(latents, self.latent_dim)
        bounded = latents.float().tanh()
        indices = ((bounded.detach().nan_to_num() + 1) / 2 * (self.codebook_size - 1)).round().long()
        quantized = straight_through(bounded, self.indices_to_latents(indices))
        commitment = (bounded - quantized.detach()).square().mean()
        return QuantizerOutput(quantized, indices, bounded.unsqueeze(3), {"commitment": commitment})

    def indices_to_latents(self, indices: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        require_indices(indices, self.groups)
        return indices.float() / (self.codebook_size - 1) * 2 - 1
'''
SETTINGS = """# @package _global_
latent_dim: 6        # D
levels: 9            # of one channel
quantizer:
  _target_: tokenizer.quantizers.rounding.RoundingQuantizer
  latent_dim: ${latent_dim}
  levels: ${at_least:levels,2}
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A copy of the house with two files more."""
    house = tmp_path_factory.mktemp("house")
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("tokenizer", "experiments", "conf", "tests/quantizers"):
        shutil.copytree(ROOT / folder, house / folder, ignore=ignore)
    for file in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / file, house / file)
    new = {"tokenizer/quantizers/rounding.py": MODULE, "conf/quantizer/rounding.yaml": SETTINGS}
    for name, text in new.items():
        assert not (house / name).exists()
        (house / name).write_text(text)
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
