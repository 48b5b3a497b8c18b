"""The smallest numbers of samples."""

import pytest

from experiments.config.errors import ConfigError
from experiments.evaluation.checks import check_samples
from experiments.evaluation.metrics import SAMPLE_METRICS
from experiments.evaluation.metrics.inception_score import SPLITS, InceptionScore
from experiments.evaluation.metrics.precision_recall import NEIGHBORS, Precision, Recall


def test_too_few_samples_are_refused_with_the_number_that_is_enough():
    for n, lacking, fewest in ((19, "inception_score", 20), (3, "inception_score, precision, recall", 20)):
        with pytest.raises(ConfigError) as caught:
            check_samples(n)
        error = caught.value
        assert (error.key, error.value, error.expected) == ("n", n, f"at least {fewest}")
        assert error.reason.endswith(f" {lacking}")
    check_samples(20)


def test_the_numbers_follow_from_splits_and_neighbors():
    assert InceptionScore.fewest_images == 2 * SPLITS
    assert Recall.fewest_images == Precision.fewest_images == NEIGHBORS + 1
    assert max(each.fewest_images for each in SAMPLE_METRICS) == 20
