"""Fréchet distance and inception score on features, and the network that gives them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric

from experiments.data.transforms import normalize, to_bytes
from experiments.evaluation.metrics.frechet import FeatureMoments, frechet_distance
from experiments.evaluation.metrics.inception import Features, Inception, inception_features, to_unit
from experiments.evaluation.metrics.inception_score import InceptionScore


def features(count, width=24, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator)
    return torch.randn(count, width, generator=generator) @ mixing * scale + torch.rand(width, generator=generator)


def distance(one, other):
    both = [FeatureMoments(one.shape[1]) for _ in range(2)]
    for moments, batch in zip(both, (one, other), strict=True):
        for part in batch.split(7):
            moments.update(part)
        moments.join()
    return frechet_distance(both[0].compute(), both[1].compute())


def test_running_sums_give_mean_and_covariance_of_all_features():
    batch = features(50)
    moments = FeatureMoments(24)
    for part in batch.split(16):
        moments.update(part)
    moments.join()
    mean, covariance = moments.compute()
    np.testing.assert_allclose(mean, batch.double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(batch.double().numpy(), rowvar=False), rtol=1e-9, atol=1e-12)


def test_the_distance_is_the_one_with_the_matrix_root_of_scipy():
    one, other = features(60).double().numpy(), features(80, seed=1).double().numpy()
    covariances = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    expected = np.square(one.mean(0) - other.mean(0)).sum() + np.trace(
        covariances[0] + covariances[1] - 2 * sqrtm(covariances[0] @ covariances[1]).real
    )
    assert distance(torch.tensor(one), torch.tensor(other)) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("count", [10, 60])  # fewer images than features, and more
def test_the_distance_is_the_one_of_torch_fidelity(count):
    one, other = features(count), features(count, seed=1)
    statistics = [fid_features_to_statistics(batch.double()) for batch in (one, other)]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert distance(one, other) == pytest.approx(expected, abs=1e-3)


def test_equal_features_have_no_distance_and_shifted_ones_the_shift_squared():
    batch = features(60)
    assert distance(batch, batch) == pytest.approx(0, abs=1e-6)
    assert distance(batch, batch + 0.5) == pytest.approx(24 * 0.25, rel=1e-4)


def score_of(*logits):
    score = InceptionScore(SimpleNamespace(classes=logits[0].shape[1]))
    for part in logits:
        score.update(SimpleNamespace(features=Features(part, logits=part)))
    score.join()
    return score.compute()


def test_inception_score_is_the_one_of_torch_fidelity_on_the_same_splits():
    logits = features(100, width=12)
    value = score_of(*logits.split(33))
    in_order_of_splits = torch.cat([logits[split::10] for split in range(10)])
    expected = isc_features_to_metric(in_order_of_splits, shuffle=False)["inception_score_mean"]
    assert value == pytest.approx(expected, rel=1e-9)


def test_inception_score_by_hand_is_the_number_of_classes_that_are_surely_seen():
    logits = torch.eye(4).repeat_interleave(10, 0) * 1e4  # every split sees each of four classes once
    assert score_of(logits) == pytest.approx(4.0)


def test_every_whole_number_survives_normalization_and_fractions_are_rounded():
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_bytes(to_unit(normalize(values))), values)
    assert to_bytes(torch.tensor([0.4 / 255, 0.9 / 255, 254.4 / 255, 1.0])).tolist() == [0, 1, 254, 255]


def test_the_network_sees_rounded_pixels():
    def network(images):
        return images.flatten(1).float(), images.flatten(1).float()

    features, _ = inception_features(network, torch.tensor([0.4, 0.9, 254.4]).view(1, 3, 1, 1) / 255)
    assert features.tolist() == [[0, 1, 254]]


def test_images_go_through_the_network_in_parts_and_come_back_in_order():
    def network(images):
        assert len(images) <= 64
        return images.float().mean((1, 2, 3)).unsqueeze(1), images.float().amax((1, 2, 3)).unsqueeze(1)

    images = torch.linspace(0, 1, 130).view(-1, 1, 1, 1).expand(130, 3, 2, 2)
    means, largest = inception_features(network, images)
    assert means.shape == (130, 1)
    assert torch.equal(means[:, 0], (torch.linspace(0, 1, 130) * 255).round())
    assert torch.equal(means, largest)


def test_inception_offers_its_map_row_by_row_with_channels_last(random_weights):
    network = Inception()
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    seen = []
    hook = network.network.Mixed_6d.register_forward_hook(lambda module, inputs, output: seen.append(output))
    features = network(images)
    hook.remove()
    pool, logits = inception_features(network.network, images)
    assert torch.equal(features.pool, pool)
    assert torch.equal(features.logits, logits)
    assert features.spatial.shape == (3, network.spatial_width) == (3, 2023)
    grid = features.spatial.unflatten(1, (17, 17, 7))
    torch.testing.assert_close(grid[2, 4, 11], seen[0][2, :7, 4, 11])  # the branch's channels come first in the block's output
    assert grid.min() == 0  # after the ReLU
    assert grid.max() > 0
    assert network.weights.startswith("weights-inception-2015-12-05-6726825d.pth ")
    assert not network.network.Mixed_6d.branch1x1._forward_hooks
