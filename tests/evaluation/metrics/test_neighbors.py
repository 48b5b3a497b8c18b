"""Precision and recall by neighbors, against torch-fidelity and by hand."""

import pytest
import torch
from torch_fidelity.metric_prc import calculate_precision_recall_full, prc_features_to_metric

import experiments.evaluation.metrics.neighbors as neighbors
from experiments.evaluation.metrics.neighbors import precision_recall


def noise(count, width=16, seed=0, scale=1.0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * scale


def clusters(count, centers, seed=0):
    generator = torch.Generator().manual_seed(seed)
    places = torch.randint(centers, (count,), generator=generator)
    return 5 * noise(centers, seed=99)[places] + 20 + noise(count, seed=seed + 1, scale=0.3)


@pytest.mark.parametrize(
    ("generated", "reference"),
    [
        (noise(300, seed=1), noise(250, seed=2, scale=1.2)),
        (clusters(300, 4, seed=1), clusters(280, 8, seed=3)),
        (clusters(150, 3, seed=1).relu(), torch.cat([clusters(90, 6, seed=3), noise(70, seed=5)]).relu()),
    ],
    ids=["noise", "clusters", "mixture"],
)
def test_precision_and_recall_are_those_of_torch_fidelity(generated, reference):
    precision, recall = precision_recall(generated, reference, 3)
    theirs = prc_features_to_metric(generated, reference, verbose=False)
    assert precision == pytest.approx(theirs["precision"], abs=1e-3)
    assert recall == pytest.approx(theirs["recall"], abs=1e-3)
    assert 0 < precision < 1
    assert 0 < recall < 1


@pytest.mark.parametrize("k", [1, 5])
def test_other_numbers_of_neighbors_agree_too(k):
    generated, reference = noise(120, seed=1), noise(100, seed=2, scale=1.1)
    assert precision_recall(generated, reference, k) == pytest.approx(calculate_precision_recall_full(generated, reference, k), abs=1e-3)


def test_blocks_change_nothing(monkeypatch):
    generated, reference = noise(130, seed=1), noise(110, seed=2)
    whole = precision_recall(generated, reference, 3)
    monkeypatch.setattr(neighbors, "TILE", (7, 2))  # fewer columns than neighbors
    assert precision_recall(generated, reference, 3) == whole


def test_points_on_a_line_by_hand():
    reference = torch.tensor([[0.0], [1.0], [2.0], [3.0]])  # to neighbor 1: balls of radius 1, together [-1, 4]
    generated = torch.tensor([[4.0], [4.0001], [-1.0], [10.0]])  # balls: 0.0001, 0.0001, 5, 5.9999
    assert precision_recall(generated, reference, 1) == (0.5, 1.0)  # 4 and -1 are on a surface; the ball of -1 reaches to 4


@pytest.mark.parametrize("seed", range(6))
def test_a_surface_is_inside_in_many_dimensions_too_where_sums_are_rounded(seed):
    generator = torch.Generator().manual_seed(seed)
    step, start = torch.randint(-999, 1000, (2, 2048), generator=generator).float()
    places = torch.tensor([0.0, 1, 2, 3, 4, 5, 6, 90, 91])  # whole numbers, so that all balls have exactly the radius of one step
    reference = start + step * places[:, None]
    generated = start + step * torch.tensor([-1.0, 7.0, 7.01, -30.0])[:, None]
    assert precision_recall(generated, reference, 1)[0] == 0.5


def test_copies_of_the_reference_are_inside():
    reference = noise(4, width=64, seed=3, scale=1000.0) + 1e4
    assert precision_recall(reference.flip(0), reference, 3) == (1.0, 1.0)


def test_a_ball_of_no_size_holds_its_own_place_alone():
    reference = torch.ones(5, 3)
    assert precision_recall(torch.cat([torch.ones(2, 3), torch.full((2, 3), 1.001)]), reference, 3) == (0.5, 1.0)


@pytest.mark.parametrize(("generated", "reference", "word"), [(3, 9, "3 generated"), (9, 3, "3 reference")])
def test_too_few_features_are_refused(generated, reference, word):
    with pytest.raises(ValueError, match=f"{word} features are too few"):
        precision_recall(noise(generated), noise(reference), 3)


def test_features_of_two_networks_are_refused():
    with pytest.raises(ValueError, match="width 16, reference features 8"):
        precision_recall(noise(9), noise(9, width=8), 3)
