"""Too few samples, said before any is made."""

import pytest

from experiments.evaluation.metrics.inception import SPLITS
from experiments.evaluation.metrics.neighbours import NEIGHBOURS
from experiments.evaluation.metrics.samples import FEWEST_SAMPLES, check_samples, too_few


def test_too_few_samples_are_refused_with_the_number_that_will_do():
    with pytest.raises(ValueError, match="n=19: samples are too few for inception_score; expected at least 20; change `n`"):
        check_samples(19)
    with pytest.raises(ValueError, match="n=1: samples are too few for gfid, precision; expected at least 4"):
        check_samples(1, ["gfid", "precision"])
    check_samples(20)
    check_samples(2, ["gfid"])


def test_the_numbers_follow_from_splits_and_neighbours():
    assert FEWEST_SAMPLES["inception_score"] == 2 * SPLITS
    assert FEWEST_SAMPLES["recall"] == FEWEST_SAMPLES["precision"] == NEIGHBOURS + 1
    assert too_few("recall", NEIGHBOURS + 1) is None
    assert "needs at least 4 images, 3 were" in too_few("recall", NEIGHBOURS)
