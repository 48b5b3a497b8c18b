"""The guidance search on synthetic scores: its path, its end, its trials."""

import math

import pytest

from experiments.config.errors import ConfigError, NonFinite
from experiments.evaluation.guidance import Trial, search_guidance, usual_start


def recorded(function):
    """A score and the list of (scale, n) that it was asked for."""
    asked = []

    def score(scale: float, n: int) -> float:
        asked.append((scale, n))
        return function(scale)

    return score, asked


def test_a_valley_is_found_and_every_try_is_kept_with_its_number_of_samples():
    score, asked = recorded(lambda scale: (scale - 1.6) ** 2)
    found = search_guidance(score, start=2.0, coarse=10, final=50)
    assert asked == [(2.0, 10), (1.75, 10), (1.5, 10), (1.25, 10), (1.5, 50)]
    assert found.best == Trial(1.5, 50, pytest.approx(0.01))
    assert [(each.scale, each.n) for each in found.trials] == asked


def test_the_search_turns_where_its_first_neighbor_is_worse():
    score, asked = recorded(lambda scale: abs(scale - 2.5))
    found = search_guidance(score, start=2.0, coarse=10, final=50)
    assert [scale for scale, _ in asked] == [2.0, 1.75, 2.25, 2.5, 2.75, 2.5]
    assert found.best.scale == 2.5


def test_a_flat_score_stays_at_the_start_after_both_neighbors():
    score, asked = recorded(lambda scale: 3.0)
    assert search_guidance(score, start=2.0, coarse=10, final=50).best == Trial(2.0, 50, 3.0)
    assert asked == [(2.0, 10), (1.75, 10), (2.25, 10), (2.0, 50)]


def test_nothing_below_the_floor_is_tried():
    score, asked = recorded(lambda scale: scale)
    assert search_guidance(score, start=1.6, coarse=10, final=50).best.scale == 1.0
    assert [scale for scale, _ in asked] == [1.6, 1.35, 1.1, 1.0, 1.25, 1.0]


def test_nothing_above_the_ceiling_is_tried_and_a_warning_states_it(caplog):
    score, asked = recorded(lambda scale: -scale)
    assert search_guidance(score, start=2.0, coarse=10, final=50, ceiling=2.6).best.scale == 2.6
    assert [scale for scale, _ in asked] == [2.0, 1.75, 2.25, 2.5, 2.6, 2.35, 2.6]
    assert [record.args for record in caplog.records] == [(2.6,)]


def test_with_all_samples_from_the_beginning_nothing_is_drawn_twice():
    score, asked = recorded(lambda scale: (scale - 2.0) ** 2)
    found = search_guidance(score, start=2.0, coarse=50, final=50)
    assert len(asked) == len(set(asked)) == len(found.trials) == 3
    assert found.trials[-1] is found.best


def test_a_start_above_the_ceiling_is_refused():
    with pytest.raises(ConfigError) as caught:
        search_guidance(lambda scale, n: 0.0, start=5.0, coarse=1, final=1, ceiling=4.0)
    assert (caught.value.key, caught.value.expected) == ("guidance.start", "at most guidance.ceiling=4.0")


def test_a_start_below_the_floor_is_refused():
    with pytest.raises(ConfigError) as caught:
        search_guidance(lambda scale, n: 0.0, start=0.5, coarse=1, final=1)
    assert caught.value.key == "guidance.start"


def test_a_score_that_is_not_finite_ends_the_search():
    with pytest.raises(NonFinite, match=r"guidance 2\.0 with 1 samples is nan"):
        search_guidance(lambda scale, n: math.nan, start=2.0, coarse=1, final=1)


def test_the_start_is_the_papers_by_schedule_and_size():
    assert usual_start("constant", 10**12) == 2.0
    assert [usual_start("step", size) for size in (111_085_824, 343_174_144, 775_028_480)] == [2.5, 1.75, 1.25]
