"""PSNR, SSIM, L1, LPIPS and the bicubic baseline."""

import math
from pathlib import Path
from types import SimpleNamespace

import lpips
import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio
from skimage.metrics import structural_similarity as scikit_ssim
from torchvision.models import alexnet

from experiments.evaluation.metrics.reconstruction import (
    L1,
    LPIPS,
    PSNR,
    SSIM,
    BicubicPSNR,
    ImagePSNR,
    bicubic_round_trip,
    structural_similarity,
)
from experiments.evaluation.metrics.tokenizer import FeatureCache, ReconstructionBatch
from tokenizer.losses.perceptual import LPIPSLoss
from tokenizer.weights import FILES


def make_images(count=2, size=24, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def errors_of(images, reconstruction, metrics, factor=4, lpips=None, batches=1):
    """Values by key of some metric classes."""
    cache = FeatureCache()
    cache.networks["alexnet"] = lpips
    running = [metric(SimpleNamespace(downsample=factor)) for metric in metrics]
    for real, fake in zip(images.chunk(batches), reconstruction.chunk(batches), strict=True):
        part = SimpleNamespace(reconstruction=fake, indices=None, layout=None)
        batch = ReconstructionBatch(real, SimpleNamespace(encoder=part, quantizer=part, decoder=part), cache)
        for metric in running:
            metric.update(batch)
    for metric in running:
        metric.join()
    return {metric.key: metric.compute() for metric in running}


def test_psnr_comes_from_the_error_of_the_whole_set_and_not_from_the_mean_over_images():
    images = torch.zeros(2, 3, 8, 8)
    reconstruction = images.clone()
    reconstruction[0] += 0.2  # 0.1 in [0, 1]
    reconstruction[1] += 0.02
    results = errors_of(images, reconstruction, [PSNR, ImagePSNR, L1])
    assert results["psnr"] == pytest.approx(10 * math.log10(2 / (0.1**2 + 0.01**2)), rel=1e-5)
    assert results["psnr_image_mean"] == pytest.approx((20 + 40) / 2, rel=1e-5)
    assert results["l1"] == pytest.approx(0.055, rel=1e-5)


def test_psnr_agrees_with_scikit_image_on_clamped_images():
    images, reconstruction = make_images(), make_images(seed=1) * 1.5
    expected = peak_signal_noise_ratio((images.numpy() + 1) / 2, np.clip((reconstruction.numpy() + 1) / 2, 0, 1), data_range=1)
    assert errors_of(images, reconstruction, [PSNR])["psnr"] == pytest.approx(expected, rel=1e-5)


def test_two_batches_of_different_size_equal_one():
    images, reconstruction = make_images(5), make_images(5, seed=1)
    metrics = [PSNR, SSIM, ImagePSNR, BicubicPSNR]
    assert [len(part) for part in images.chunk(2)] == [3, 2]
    assert errors_of(images, reconstruction, metrics, batches=2) == pytest.approx(errors_of(images, reconstruction, metrics), rel=1e-6)


def test_perfect_images_have_infinite_psnr_and_count_100_db_in_the_mean():
    images = make_images()
    results = errors_of(images, images, [PSNR, ImagePSNR, SSIM])
    assert results == {"psnr": math.inf, "psnr_image_mean": 100.0, "ssim": pytest.approx(1.0)}


def test_a_reconstruction_that_is_nan_has_no_perfect_psnr():
    images = make_images()
    results = errors_of(images, images * math.nan, [PSNR, ImagePSNR, L1])
    assert all(math.isnan(value) for value in results.values())


def expected_ssim(x: torch.Tensor, y: torch.Tensor) -> float:
    """scikit-image's mean over the windows inside two images (3, H, W) in [0, 1], by the definition of Wang et al. 2004."""
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return scikit_ssim(x.double().numpy(), y.double().numpy(), data_range=1.0, channel_axis=0, **settings)


@pytest.mark.parametrize("size", [(11, 11), (12, 11), (16, 16), (24, 31), (64, 48)])
@pytest.mark.parametrize("noise", [0.02, 0.3, 1.0])
def test_ssim_agrees_with_scikit_image(size, noise):
    torch.manual_seed(0)
    images = torch.rand(2, 3, *size)
    changed = (images + noise * torch.randn(2, 3, *size)).clamp(0, 1)
    expected = [expected_ssim(*pair) for pair in zip(changed, images, strict=True)]
    assert structural_similarity(changed, images, 11).tolist() == pytest.approx(expected, abs=1e-10)


def test_ssim_of_photographs_agrees_with_scikit_image():
    photo = torch.tensor(data.astronaut()[:128, 100:228] / 255, dtype=torch.float32).permute(2, 0, 1)
    blurred = bicubic_round_trip(photo[None], 4)
    assert structural_similarity(blurred, photo[None], 11).item() == pytest.approx(expected_ssim(blurred[0], photo), abs=1e-10)


@pytest.mark.parametrize(("first", "expected"), [(0, 0.998), (12, 0.911)])
def test_ssim_counts_an_error_by_the_windows_inside_the_image_that_see_it(first, expected):
    side = torch.arange(24.0) / 23
    ramp = ((side[:, None] + side) / 2).expand(3, 24, 24)
    changed = ramp.clone()
    changed[:, first : first + 3, first : first + 3] = 1 - changed[:, first : first + 3, first : first + 3]
    assert structural_similarity(changed[None], ramp[None], 11).item() == pytest.approx(expected, abs=5e-4)


def test_the_bicubic_baseline_keeps_smooth_images_and_loses_fine_ones():
    ramp = torch.linspace(0.2, 0.8, 32).expand(1, 3, 32, 32)
    assert (bicubic_round_trip(ramp, 4) - ramp).abs()[..., 8:-8].max() < 0.005
    checkers = ((torch.arange(32)[:, None] + torch.arange(32)) % 2).float().expand(1, 3, 32, 32)
    assert (bicubic_round_trip(checkers, 4) - 0.5).abs()[..., 6:-6, 6:-6].max() < 0.05


def test_the_bicubic_baseline_agrees_with_pillow_on_a_photograph():
    from PIL import Image

    photo = data.astronaut()[100:228, 150:278, 1]
    channel = Image.fromarray(photo.astype(np.float32), mode="F")
    small = channel.resize((16, 16), Image.Resampling.BICUBIC)  # Pillow's kernel has -0.5 where upsampling in torch has -0.75
    images = torch.tensor(photo / 255, dtype=torch.float32).expand(1, 3, 128, 128)
    ours = torch.nn.functional.interpolate(images, size=(16, 16), mode="bicubic", antialias=True)[0, 0] * 255
    assert np.abs(ours.numpy() - np.asarray(small)).max() < 0.01
    large = np.asarray(small.resize((128, 128), Image.Resampling.BICUBIC)).clip(0, 255) / 255
    expected = peak_signal_noise_ratio(photo / 255, large, data_range=1)
    result = errors_of(images * 2 - 1, images, [BicubicPSNR], factor=8)["psnr_bicubic"]
    assert result == pytest.approx(expected, abs=0.3)


def test_lpips_uses_the_trunk_of_torchvisions_file_and_leaves_random_numbers_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    torch.manual_seed(3)
    features = alexnet(weights=None).features
    torch.save({f"features.{name}": value for name, value in features.state_dict().items()}, FILES["alexnet"].path)
    state = torch.get_rng_state()
    network = LPIPSLoss("alexnet", "symmetric")
    assert torch.equal(torch.get_rng_state(), state)
    assert list(network.parameters()) == []
    images, reconstruction = make_images(2, 64), make_images(2, 64, seed=1)
    expected = lpips_by_hand(features, images, reconstruction)
    assert errors_of(images, reconstruction, [LPIPS], lpips=network)["lpips"] == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def lpips_by_hand(features, images, reconstruction):
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1), torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
    real, fake, total = (images - shift) / scale, (reconstruction - shift) / scale, 0.0
    heads = torch.load(Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth", map_location="cpu", weights_only=True)
    weights = iter([heads[name].view(1, -1, 1, 1) for name in sorted(heads)])
    for number, layer in enumerate(features):
        real, fake = layer(real), layer(fake)
        if number in (1, 4, 7, 9, 11):
            distance = torch.nn.functional.normalize(real, dim=1) - torch.nn.functional.normalize(fake, dim=1)
            total += (next(weights) * distance.square()).sum(1).mean((1, 2)).mean().item()
    return total
