"""The smallest numbers of samples."""

from types import SimpleNamespace

import pytest

from experiments.config.errors import ConfigError
from experiments.config.settings import GenerateSettings
from experiments.evaluation.checks import check_samples, idle_in_generation
from experiments.evaluation.metrics import SAMPLE_METRICS
from experiments.evaluation.metrics.inception_score import SPLITS, InceptionScore
from experiments.evaluation.metrics.precision_recall import NEIGHBORS, Precision, Recall

DEFAULTS = {
    "guidance": 1.0, "guidance_schedule": "constant", "balanced": False, "top_k": 0, "metrics": False, "weights": "ema",
}  # fmt: skip
FILTERS, SCHEDULE = {"temperature", "top_p"}, {"guidance_schedule", "guidance_start", "guidance_end", "first_token"}
OF_METRICS = {"image_size", "workers"}


@pytest.mark.parametrize(
    ("changed", "num_classes", "idle"),
    [
        ({}, 10, SCHEDULE | OF_METRICS),
        ({"guidance": 2.0}, 10, {"guidance_start", "first_token"} | OF_METRICS),
        ({"guidance": 2.0, "guidance_schedule": "step"}, 10, OF_METRICS),
        ({"guidance": 2.0, "guidance_schedule": "cosine", "metrics": True}, 10, {"guidance_start"}),
        ({"balanced": True, "top_k": 1}, 0, {"balanced"} | FILTERS | SCHEDULE | OF_METRICS),
        ({"top_k": 64, "metrics": True}, 10, {"top_k"} | SCHEDULE),
        ({"top_k": 63, "metrics": True}, 10, SCHEDULE),
    ],
)
def test_settings_of_a_generation_that_change_nothing_are_known(changed, num_classes, idle):
    model = SimpleNamespace(tokens={"num_classes": num_classes, "codebook_size": 64}, idle_weights=lambda weights: {})
    assert set(idle_in_generation(GenerateSettings.model_construct(**{**DEFAULTS, **changed}), model)) == idle


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
