"""Metrics of samples, from images to numbers and cards."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from experiments.evaluation.metrics.frechet import frechet_distance
from experiments.evaluation.metrics.reference import ReferenceStatistics
from experiments.evaluation.metrics.samples import SampleMetrics, without_networks
from experiments.evaluation.results import Skipped
from tests.evaluation.metrics.extractor import SmallExtractor, random_images
from tokenizer.interfaces import ImageBatch


def reference(count=60, network=None):
    images = random_images(count, seed=9)
    return ReferenceStatistics.from_images([ImageBatch(images, torch.zeros(count), [])], network or SmallExtractor(), "noise")


NAMES = {"gfid", "sfid", "inception_score", "precision", "recall"}
LITE0 = {"frechet_lite0": Skipped("no package", "lite0")}


def metrics(of=None, network=None, **options):
    fields = {"subject": "ema", "seed": 3, "guidance": 1.5, "transform": "whole"}
    references = {} if of is None else {"inception": of}
    networks = {"inception": network or SmallExtractor(), "lite0": Skipped("no package", "lite0")}
    return SampleMetrics(networks, references, None, 8, fields, **options)


def generated(count=50):
    return (random_images(count, seed=1) / 255) ** 1.3


def results(count=50, of=None, batch=8, **options):
    running = metrics(of, **options)
    for part in generated(count).split(batch):
        running.update(part, torch.zeros(len(part)))
    return running.compute()


def test_all_metrics_are_those_of_torch_fidelity_on_the_same_features():
    one, other = SmallExtractor()((generated() * 255).round() / 255), SmallExtractor()(random_images(60, seed=9) / 255)

    def fid(first, second):
        both = [fid_features_to_statistics(rows.double()) for rows in (first, second)]
        return fid_statistics_to_metric(*both, verbose=False)["frechet_inception_distance"]

    neighbors = prc_features_to_metric(one.pool, other.pool, verbose=False)
    values = results(of=reference()).values
    assert values["gfid"] == pytest.approx(fid(one.pool, other.pool), abs=1e-3)
    assert values["sfid"] == pytest.approx(fid(one.spatial, other.spatial), abs=1e-3)
    assert values["precision"] == pytest.approx(neighbors["precision"], abs=1e-3)
    assert values["recall"] == pytest.approx(neighbors["recall"], abs=1e-3)
    assert values["gfid"] > 0.1
    assert 1 < values["inception_score"] < 3


def test_samples_are_rounded_to_whole_numbers_of_eight_bits():
    images = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 1.0]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    seen = []

    class Listener(SmallExtractor):
        def __call__(self, images):
            seen.append(images)
            return super().__call__(images)

    metrics(network=Listener()).update(images, torch.zeros(1))
    assert seen[0][0, 0].flatten().tolist() == torch.tensor([0.0, 0.0, 1 / 255, 1.0]).tolist()


def test_batches_and_computing_twice_change_nothing():
    of = reference()
    running = metrics(of)
    running.update(generated(), torch.zeros(50))
    running.update(generated()[:0], torch.zeros(0))
    assert running.compute().values == running.compute().values == pytest.approx(results(of=of, batch=7).values)


def test_without_a_reference_only_the_inception_score_is_left():
    found = results()
    assert set(found.values) == {"inception_score"}
    assert set(found.skipped) == {"gfid", "sfid", "precision", "recall", *LITE0}
    assert found.cards["inception_score"]["reference"] == "none"


@pytest.mark.parametrize(("lacking", "skipped"), [("spatial", {"sfid"}), ("features", {"precision", "recall"})])
def test_what_the_reference_lacks_is_skipped_and_named(lacking, skipped):
    found = results(of=dataclasses.replace(reference(), **{lacking: None}))
    assert set(found.skipped) == {*skipped, *LITE0}
    assert all("noise, 60 images" in found.skipped[name].reason for name in skipped)
    assert set(found.values) == NAMES - skipped


def test_what_the_network_lacks_is_skipped_and_named():
    network = SmallExtractor(spatial_width=0, classes=0)
    found = results(of=reference(network=network), network=network)
    lacking = {"sfid": Skipped("small has no spatial features"), "inception_score": Skipped("small is no classifier")}
    assert found.skipped == lacking | LITE0


@pytest.mark.parametrize(("count", "left"), [(0, set()), (1, set()), (3, {"gfid", "sfid"}), (19, {"gfid", "sfid", "precision", "recall"})])
def test_metrics_that_need_more_samples_are_skipped_and_named(count, left):
    found = results(count, of=reference())
    assert set(found.values) == left
    assert set(found.skipped) == {*(NAMES - left), *LITE0}
    reason = f"inception_score needs at least 20 images, {count} were generated" if count else "no image was generated"
    assert found.skipped["inception_score"] == Skipped(reason)


def test_cards_state_how_the_numbers_were_computed():
    cards = results(of=reference(), stored_features=40).cards
    assert cards["gfid"] | {"code_version": ""} == {
        "metric": "gfid", "backend": "torch", "network": "small", "weights": "file 0123", "resize": "mean of areas to 4",
        "transform": "whole", "image_size": 8, "reference": "noise, 60 images", "n": 50, "aggregate": "covariances of all images",
        "dtype": "float32, sums in float64", "subject": "ema", "guidance": 1.5, "losses": None, "protocol": None,
        "seed": 3, "code_version": "",
    }  # fmt: skip
    assert cards["sfid"]["aggregate"].startswith("unverified")
    assert cards["recall"]["aggregate"] == "balls to neighbor 3, 40 of 50, drawn with seed 0 generated, 60 real features"
    assert results(6, of=reference()).cards["gfid"]["aggregate"].endswith("singular: no more images than the 6 features")


def test_a_reference_of_another_network_is_refused():
    with pytest.raises(ValueError, match="made with other, file 0, expected small, file 0123"):
        metrics(dataclasses.replace(reference(), network="other, file 0"))


def test_a_missing_network_skips_and_names_everything():
    absent = {"inception": Skipped("no file", "inception"), "lite0": LITE0["frechet_lite0"]}
    assert without_networks(absent).skipped == dict.fromkeys(NAMES, absent["inception"]) | LITE0


@pytest.mark.parametrize(("rows", "columns"), [(200, 200), (20, 200), (200, 20), (20, 24)], ids=["full", "first", "second", "both"])
def test_the_distance_is_exact_whichever_covariance_is_singular(rows, columns):
    random = np.random.default_rng(0)
    one, other = random.normal(size=(rows, 48)) @ random.normal(size=(48, 48)), random.normal(size=(columns, 48)) + 0.3
    covariances = [np.cov(batch, rowvar=False) for batch in (one, other)]
    moments = [(torch.from_numpy(batch.mean(0)), torch.from_numpy(part)) for batch, part in zip((one, other), covariances, strict=True)]
    # The trace of the root of A B is the sum of the singular values of X Y^T, where A = X^T X and B = Y^T Y.
    roots = [(batch - batch.mean(0)) / np.sqrt(len(batch) - 1) for batch in (one, other)]
    overlap = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    rest = np.square(one.mean(0) - other.mean(0)).sum() + np.trace(covariances[0]) + np.trace(covariances[1])
    assert frechet_distance(*moments) == pytest.approx(rest - 2 * overlap, rel=1e-6)
    by_scipy = np.trace(sqrtm(covariances[0] @ covariances[1]).real)
    assert frechet_distance(*moments) == pytest.approx(rest - 2 * by_scipy, rel=1e-6)
