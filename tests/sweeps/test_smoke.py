"""Each row of every GSQ table trained at scale=smoke: two steps of each optimizer, validation, saving, loading."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.config.files import ConfigFolders
from experiments.config.packages import CONF
from experiments.runs.checkpoints import STATE, load_checkpoint
from experiments.runs.folder import RunFolder
from experiments.runs.models import load_tokenizer
from experiments.sweeps.jobs import compose_jobs
from experiments.tables.reading import read_sweep
from experiments.training.loop import train
from tokenizer.weights import FILES

ROWS = [(name, row.name) for name in ConfigFolders(CONF).choices("sweep") if name.startswith("gsq/") for row in read_sweep(name, CONF).runs]
QUICK = [
    ("gsq/table02_codebook_losses", "entropy_05"),
    ("gsq/table04_perceptual", "resnet_07_4"),
    ("gsq/table06_schedules", "step"),
    ("gsq/table07_discriminators", "stylegan_nv"),
    ("gsq/table08_augmentation", "resize_color_translation"),
    ("gsq/table11_regularisation", "patchgan_adaptive"),
    ("gsq/table11_regularisation", "patchgan_penalty"),
    ("gsq/table13_groups", "f16_16x1_clip"),
    ("gsq/figure02_quantizers", "fsq"),
]


@pytest.fixture
def weights_of_losses(weights_files, tmp_path, monkeypatch) -> None:
    """Random weights for losses and discriminators alone: those of the metrics would only cost time."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("vgg16", "resnet50_a1", "dinov2_vits14_reg"):
        (folder / FILES[name].filename).symlink_to(weights_files / FILES[name].filename)
    monkeypatch.setenv("TESSERA_WEIGHTS", str(folder))


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """As few as a batch needs: most of the time of so short a run would go into its validations."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for part in ("train", "val"):
        (folder / part / "noise").mkdir(parents=True)
        for number in range(6):
            noise = generator.integers(0, 256, (72, 72, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / part / "noise" / f"{number}.png")
    return folder


def run_row(name: str, row: str, runs: Path, images: Path) -> None:
    """Train a row and look at what it leaves."""
    sweep = read_sweep(name, CONF)
    (job,) = compose_jobs(sweep, "smoke", [0], [f"runs_folder={runs}", "data=image_folder", f"data.root={images}"], [row])
    config = job.composition.config
    assert train(config, job.overrides, "row") == 0
    (path,) = (runs / "row").iterdir()
    folder = RunFolder(path)
    assert folder.state == "done"
    assert {"val/psnr", "val/ssim", "val/codebook_usage", "val/bits_per_token", "model/parameters"} <= set(folder.result["metrics"])
    optimizers = 1 if config["discriminator"] is None else 2
    checkpoint = load_checkpoint(folder.checkpoint_files[-1])
    steps = [{int(state["step"]) for state in optimizer["state"].values()} for optimizer in checkpoint["optimizer_states"]]
    assert (checkpoint[STATE]["updates"], steps) == (2, [{2}] * optimizers)
    check_loaded(path, config, [1, *(settings["image_size_times"] for settings in sweep.evaluations.values())])


def check_loaded(path: Path, config: dict, factors: list[int]) -> None:
    """The saved tokenizer, at the sizes that the table asks for."""
    tokenizer, _ = load_tokenizer(path)
    for factor in factors:
        side = factor * config["image_size"]
        images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
        with torch.no_grad():
            output = tokenizer(images)
        again = tokenizer.decode_indices(output.quantizer.indices, output.encoder.layout)
        torch.testing.assert_close(again, output.decoder.reconstruction)
        assert output.decoder.reconstruction.isfinite().all()


@pytest.mark.parametrize(("name", "row"), QUICK, ids=[f"{name}-{row}" for name, row in QUICK])
def test_a_row_trains_saves_and_loads(name, row, tmp_path, images, weights_of_losses):
    run_row(name, row, tmp_path / "runs", images)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "row"), [pair for pair in ROWS if pair not in QUICK])
def test_every_row_trains_saves_and_loads(name, row, tmp_path, images, weights_of_losses):
    run_row(name, row, tmp_path / "runs", images)
