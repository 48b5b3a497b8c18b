"""The wheel works in an environment without the repository: configuration files, types and a training."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from experiments.config.packages import ROOT

pytestmark = pytest.mark.slow
SOURCES = ("tokenizer", "experiments", "conf", "pyproject.toml", "README.md", "LICENSE")


def call(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(part) for part in command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The interpreter of an environment with the wheel; the dependencies are those of this one, the editable install is not."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    call(folder, sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", folder, source)
    shutil.rmtree(source)
    call(folder, sys.executable, "-m", "venv", "--without-pip", "environment")
    python = folder / "environment" / "bin" / "python"
    site = Path(call(folder, python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # a .pth file there is not read again
    (wheel,) = folder.glob("*.whl")
    call(folder, sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    assert (site / "experiments" / "conf" / "experiment" / "gsq").is_dir()
    assert (site / "tokenizer" / "py.typed").is_file()
    return python


def test_help_lists_the_choices(installed, tmp_path):
    text = call(tmp_path, installed, "-m", "experiments.train", "--help").stdout
    assert "experiment=" in text
    assert "gsq/vae_f8" in text


def test_a_training_runs(installed, tmp_path):
    where = call(tmp_path, installed, "-c", "import experiments; print(experiments.__file__)").stdout
    assert Path(where.strip()).is_relative_to(installed.parent.parent)
    call(tmp_path, installed, "-m", "experiments.train", "scale=smoke", "updates=1", "discriminator=none")
    (run,) = (tmp_path / "runs" / "gsq").iterdir()
    assert '"state": "done"' in (run / "result.json").read_text()
    assert "gsq/table01_codebook" in call(tmp_path, installed, "-m", "experiments.sweep", "--help").stdout
