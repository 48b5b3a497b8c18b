"""Learning-rate schedules against hand-made values."""

import math

import pytest

from experiments.config.errors import ConfigError
from experiments.training.schedules import Constant, Cosine, Step, WarmupStableDecay, in_updates


def test_lengths_are_updates_or_fractions():
    assert in_updates(5000, 100_000, "x") == 5000
    assert in_updates(0.75, 1000, "x") == 750
    assert in_updates(1, 1000, "x") == 1
    assert in_updates(1.0, 1000, "x") == 1000


@pytest.mark.parametrize("length", [-1, 1.5])
def test_a_length_out_of_range_names_its_key(length):
    with pytest.raises(ConfigError) as caught:
        in_updates(length, 10, "warmup")
    assert (caught.value.key, caught.value.value) == ("warmup", length)


def test_a_warmup_starts_at_zero_and_rises_linearly():
    schedule = Constant(warmup=4)
    assert [schedule.factor(u, 100) for u in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]


@pytest.mark.parametrize(
    "schedule",
    [
        Constant(warmup=4, initial=0.01),
        Cosine(warmup=4, decay=1.0, final=0.0, initial=0.01),
        Step(warmup=4, milestones=[50], gamma=0.1, initial=0.01),
    ],
)
def test_a_warmup_may_start_at_a_share_of_the_learning_rate(schedule):
    assert [schedule.factor(u, 100) for u in range(5)] == pytest.approx([0.01, 0.2575, 0.505, 0.7525, 1])


def test_half_a_cosine_ends_where_the_decay_ends():
    schedule = Cosine(warmup=10, decay=110, final=0.1)
    assert schedule.factor(5, 200) == 0.5
    assert schedule.factor(10, 200) == 1
    assert schedule.factor(60, 200) == pytest.approx(0.55)
    assert schedule.factor(35, 200) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert schedule.factor(110, 200) == pytest.approx(0.1)
    assert schedule.factor(199, 200) == pytest.approx(0.1)


def test_a_stable_phase_ends_in_one_minus_a_square_root():
    schedule = WarmupStableDecay(warmup=4, initial=0.01, decay=0.2)
    assert [schedule.factor(u, 500) for u in (0, 1, 2, 4, 5, 399, 400)] == pytest.approx([0.01, 0.2575, 0.505, 1, 1, 1, 1])
    assert [schedule.factor(u, 500) for u in (401, 404, 425, 449, 464, 500)] == pytest.approx([0.9, 0.8, 0.5, 0.3, 0.2, 0])
    assert WarmupStableDecay(warmup=0, initial=0.01, decay=0).factor(99, 100) == 1


def test_warmup_and_decay_that_overlap_are_refused():
    with pytest.raises(ConfigError, match=r"schedule\.decay=0\.6: .* 50 updates of 100"):
        WarmupStableDecay(warmup=50, initial=0.01, decay=0.6).factor(0, 100)


def test_steps_multiply():
    schedule = Step(warmup=0, milestones=[0.5, 75], gamma=0.1)
    assert [schedule.factor(u, 100) for u in (0, 49, 50, 74, 75, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("schedule", "arguments", "value"),
    [
        (Constant, {"warmup": -1}, ("warmup", "-1")),
        (Cosine, {"warmup": 0, "decay": 1.5, "final": 0.1}, ("decay", "1.5")),
        (Cosine, {"warmup": 0, "decay": 1.0, "final": 7}, ("final", "7")),
        (Cosine, {"warmup": 0, "decay": 1.0, "final": float("nan")}, ("final", "nan")),
        (Step, {"warmup": 0, "milestones": [0.5, -2], "gamma": 0.1}, ("milestones", "-2")),
        (Step, {"warmup": 0, "milestones": [0.5], "gamma": -1}, ("gamma", "-1")),
        (Constant, {"warmup": 2, "initial": 2}, ("initial", "2")),
        (Cosine, {"warmup": 2, "decay": 1.0, "final": 0.1, "initial": -0.5}, ("initial", "-0.5")),
        (Step, {"warmup": 2, "milestones": [0.5], "gamma": 0.1, "initial": float("nan")}, ("initial", "nan")),
    ],
)
def test_nonsense_is_refused_by_the_name_of_the_argument(schedule, arguments, value):
    with pytest.raises(ConfigError) as caught:
        schedule(**arguments)
    assert (caught.value.key, str(caught.value.value)) == value


def test_a_decay_that_ends_before_the_warmup_is_refused():
    with pytest.raises(ConfigError, match=r"decay=0\.1: expected an end after that of the warm-up, 20 updates of 100"):
        Cosine(warmup=20, decay=0.1, final=0.0).factor(0, 100)
    assert Cosine(warmup=20, decay=0.2, final=0.0).factor(20, 100) == 1
