"""The best guidance scale by hill-climbing, as for GigaTok's generation results.

Source: GigaTok (arXiv:2504.08736), section 4 and its released recipe: from an empirical start in steps of 0.25, never below 1.0, always
from the best scale so far to a neighbor that was not tried, until both neighbors are no better. There every trial takes all samples;
here the search may take fewer, and the best scale is tried once more with all samples. Every trial has its number of samples.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

from experiments.config.errors import ConfigError, NonFinite

log = logging.getLogger(__name__)

# First scale of the step schedule, by the largest number of parameters: GPT-B, GPT-L and larger ones of the paper.
STARTS_OF_STEP = ((200e6, 2.5), (500e6, 1.75), (math.inf, 1.25))
START = 2.0  # first scale of every other schedule
PLACES = 6  # decimals of a scale, so that steps up and down give equal numbers


@dataclass(frozen=True)
class Trial:
    """A scale with its score from `n` samples, the lower the better."""

    scale: float
    n: int
    score: float


@dataclass(frozen=True)
class Search:
    """The best scale with all samples, and every trial in order, the best one last."""

    best: Trial
    trials: list[Trial]


def usual_start(schedule: str, parameters: int) -> float:
    """First scale of the paper for a guidance schedule and a number of parameters of the generator."""
    if schedule != "step":
        return START
    return next(start for most, start in STARTS_OF_STEP if parameters <= most)


def search_guidance(
    score: Callable[[float, int], float],
    start: float,
    coarse: int,
    final: int,
    step: float = 0.25,
    floor: float = 1.0,
    ceiling: float = 20.0,
) -> Search:
    """Climb down from `start` with `coarse` samples per trial, then score the best scale with `final` samples.

    A warning states a best scale that is the ceiling: a higher one may be better.

    Args:
        score: score of a scale with a number of samples; lower is better.
        start: first scale.
        coarse: samples of a trial of the search.
        final: samples of the last trial; if they are no more than `coarse`, the search takes them all and nothing is drawn twice.
        step: distance of neighbors.
        floor: lowest scale.
        ceiling: highest scale.

    Raises:
        ConfigError: the start is below the floor or above the ceiling.
        NonFinite: a score is not finite.
    """
    if start < floor:
        raise ConfigError("guidance.start", start, expected=f"at least guidance.floor={floor}")
    if start > ceiling:
        raise ConfigError("guidance.start", start, expected=f"at most guidance.ceiling={ceiling}")
    searched = min(coarse, final)
    tried = {start: _trial(score, start, searched)}
    while True:
        best = min(tried.values(), key=lambda each: each.score)
        beside = [max(floor, round(best.scale - step, PLACES)), min(ceiling, round(best.scale + step, PLACES))]
        untried = [scale for scale in beside if scale not in tried]
        if not untried:
            break
        tried[untried[0]] = _trial(score, untried[0], searched)
    if best.scale == ceiling:
        log.warning("the best guidance scale is the highest one that is tried, guidance.ceiling=%g", ceiling)
    if searched == final:
        others = [each for each in tried.values() if each is not best]
        return Search(best, [*others, best])
    last = _trial(score, best.scale, final)
    return Search(last, [*tried.values(), last])


def _trial(score: Callable[[float, int], float], scale: float, n: int) -> Trial:
    value = score(scale, n)
    if not math.isfinite(value):
        raise NonFinite(f"the score of guidance {scale} with {n} samples is {value}: are the samples of the generator finite?")
    return Trial(scale, n, value)
