"""The best guidance scale by hill-climbing: the search that GigaTok's generation results rest on.

Source: GigaTok (arXiv:2504.08736), section 4 and its released recipe: from an empirical start in steps of 0.25, never below 1.0, always
from the best scale so far to a neighbour that was not tried, until both neighbours are no better. There every try takes all samples;
here the search may take fewer, and all of them are drawn once more at its end. Every try says how many samples it took.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

STARTS_OF_STEP = ((200e6, 2.5), (500e6, 1.75), (math.inf, 1.25))
"""Where the search under the step schedule begins, by the most parameters of the generator: the paper's GPT-B, GPT-L and larger ones."""
START = 2.0
"""Where it begins under every other schedule."""
PLACES = 6
"""Decimals of a scale, so that steps up and down meet again."""


@dataclass(frozen=True)
class Trial:
    """A scale that was tried: with `n` samples it scored `score`, the lower the better."""

    scale: float
    n: int
    score: float


@dataclass(frozen=True)
class Search:
    """The best scale with all samples, and every trial in order, the best one last."""

    best: Trial
    trials: list[Trial]


def usual_start(schedule: str, parameters: int) -> float:
    """Where the paper begins.

    Args:
        schedule: of the guidance.
        parameters: of the generator.
    """
    if schedule != "step":
        return START
    return next(start for most, start in STARTS_OF_STEP if parameters <= most)


def search_guidance(
    score: Callable[[float, int], float], start: float, coarse: int, final: int, step: float = 0.25, floor: float = 1.0
) -> Search:
    """Climb down from `start` with `coarse` samples per trial, then score the best scale with `final` samples.

    Args:
        score: of a scale with so many samples; lower is better.
        start: the first scale.
        coarse: samples of a trial of the search.
        final: samples of the last trial; if they are no more than `coarse`, the search takes them all and nothing is drawn twice.
        step: between neighbours.
        floor: the lowest scale.

    Raises:
        ValueError: a start below the floor, a step or number of samples that is not positive, or a score that is not finite.
    """
    if start < floor:
        raise ValueError(f"guidance.start={start}: expected at least guidance.floor={floor}; change `guidance.start`")
    if step <= 0:
        raise ValueError(f"guidance.step={step}: expected a number above 0; change `guidance.step`")
    if coarse < 1 or final < 1:
        raise ValueError(f"{coarse} samples for the search and {final} for the result: expected at least 1; change `samples`")
    searched = min(coarse, final)
    tried = {start: _trial(score, start, searched)}
    while True:
        best = min(tried.values(), key=lambda each: each.score)
        beside = [max(floor, round(best.scale - step, PLACES)), round(best.scale + step, PLACES)]
        untried = [scale for scale in beside if scale not in tried]
        if not untried:
            break
        tried[untried[0]] = _trial(score, untried[0], searched)
    if searched == final:
        others = [each for each in tried.values() if each is not best]
        return Search(best, [*others, best])
    last = _trial(score, best.scale, final)
    return Search(last, [*tried.values(), last])


def _trial(score: Callable[[float, int], float], scale: float, n: int) -> Trial:
    value = score(scale, n)
    if not math.isfinite(value):
        raise ValueError(f"guidance {scale} scores {value} with {n} samples: expected a finite number; are the generator's samples sound?")
    return Trial(scale, n, value)
