"""Learning-rate schedules: a factor for every update, a pure function of the clock, so that nothing is saved or restored.

Lengths are whole numbers of updates, or fractions (floats up to 1.0) of the run's updates. They count from the start of the run.
"""

import math
from typing import Protocol


class Schedule(Protocol):
    """What the task asks of a schedule."""

    def factor(self, update: int, updates: int) -> float:
        """Factor of the learning rate for the step that follows `update` finished ones, of `updates` in all."""
        ...


def in_updates(length: float, updates: int, key: str) -> int:
    """A length in updates.

    Raises:
        ValueError: negative, or a fraction above 1.
    """
    if length < 0 or (isinstance(length, float) and length > 1):
        raise ValueError(f"{key}={length}: expected a whole number of updates, or a fraction from 0.0 to 1.0 of them; change `{key}`")
    return round(length * updates) if isinstance(length, float) else length


def warmup_factor(update: int, warmup: int) -> float:
    """Linear from 0 at the first step to 1 after `warmup` updates."""
    return min(1.0, update / warmup) if warmup else 1.0


class Constant:
    """Linear warm-up, then constant."""

    def __init__(self, warmup: float) -> None:
        self.warmup = warmup

    def factor(self, update: int, updates: int) -> float:
        """See `Schedule`."""
        return warmup_factor(update, in_updates(self.warmup, updates, "schedule.warmup"))


class Cosine:
    """Linear warm-up, half a cosine down to a share of the learning rate, then constant."""

    def __init__(self, warmup: float, decay: float, final: float) -> None:
        """Keep the settings.

        Args:
            warmup: where the warm-up ends.
            decay: where the decay ends.
            final: share of the learning rate that is left, in [0, 1].
        """
        self.warmup = warmup
        self.decay = decay
        self.final = final

    def factor(self, update: int, updates: int) -> float:
        """See `Schedule`."""
        warmup = in_updates(self.warmup, updates, "schedule.warmup")
        end = in_updates(self.decay, updates, "schedule.decay")
        if update < warmup:
            return warmup_factor(update, warmup)
        progress = min(1.0, (update - warmup) / max(1, end - warmup))
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


class Step:
    """Linear warm-up, then a drop at every milestone."""

    def __init__(self, warmup: float, milestones: list[float], gamma: float) -> None:
        """Keep the settings.

        Args:
            warmup: where the warm-up ends.
            milestones: where the learning rate drops.
            gamma: factor of each drop.
        """
        self.warmup = warmup
        self.milestones = milestones
        self.gamma = gamma

    def factor(self, update: int, updates: int) -> float:
        """See `Schedule`."""
        passed = sum(update >= in_updates(milestone, updates, "schedule.milestones") for milestone in self.milestones)
        return warmup_factor(update, in_updates(self.warmup, updates, "schedule.warmup")) * self.gamma**passed
