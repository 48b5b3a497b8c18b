"""Learning-rate schedules: a factor for every update, a pure function of the clock, so that nothing is saved or restored.

Lengths are whole numbers of updates, or fractions (floats up to 1.0) of the run's updates. They count from the start of the run.
An error names the argument alone: a configuration has several schedules, and `build` adds the key of the one at hand.
"""

import math
from typing import Protocol

from experiments.config.errors import ConfigError

LENGTH = "a whole number of updates, or a fraction from 0.0 to 1.0 of them"


class Schedule(Protocol):
    """Interface of a schedule."""

    def factor(self, update: int, updates: int) -> float:
        """Factor of the learning rate for the step that follows `update` finished ones, of `updates` in all."""
        ...


def is_length(length: float) -> bool:
    """Whether a number is a whole number of updates or a fraction of them."""
    return 0 <= length <= 1 if isinstance(length, float) else length >= 0


def in_updates(length: float, updates: int, key: str) -> int:
    """A length in updates.

    Raises:
        ConfigError: negative, or a fraction above 1.
    """
    if not is_length(length):
        raise ConfigError(key, length, expected=LENGTH)
    return round(length * updates) if isinstance(length, float) else length


def check_lengths(**lengths: float) -> None:
    """Refuse numbers that are no lengths, by name.

    Raises:
        ConfigError: negative, or a fraction above 1.
    """
    for key, length in lengths.items():
        if not is_length(length):
            raise ConfigError(key, length, expected=LENGTH)


def check_share(key: str, value: float) -> None:
    """Refuse a factor of the learning rate outside [0, 1].

    Raises:
        ConfigError: it is.
    """
    if not 0 <= value <= 1:
        raise ConfigError(key, value, expected="a number from 0 to 1")


def _refusal(value: float, expected: str) -> ConfigError:
    """The error for a decay that does not fit to the warm-up, which is known when the number of updates is."""
    return ConfigError("schedule.decay", value, expected=expected, advice="change `schedule.decay` or `discriminator_schedule.decay`")


def warmup_factor(update: int, warmup: int, initial: float) -> float:
    """Linear from `initial` at the first step to 1 after `warmup` updates."""
    return initial + (1 - initial) * min(1.0, update / warmup) if warmup else 1.0


class Constant:
    """Linear warm-up, then constant."""

    def __init__(self, warmup: float, initial: float = 0.0) -> None:
        """
        Args:
            warmup: end of the warm-up.
            initial: initial share of the learning rate, in [0, 1].

        Raises:
            ConfigError: a length or share out of range.
        """
        check_lengths(warmup=warmup)
        check_share("initial", initial)
        self.warmup = warmup
        self.initial = initial

    def factor(self, update: int, updates: int) -> float:
        """See `Schedule`."""
        return warmup_factor(update, in_updates(self.warmup, updates, "warmup"), self.initial)


class Cosine:
    """Linear warm-up, half a cosine down to a share of the learning rate, then constant."""

    def __init__(self, warmup: float, decay: float, final: float, initial: float = 0.0) -> None:
        """
        Args:
            warmup: end of the warm-up.
            decay: end of the decay.
            final: final share of the learning rate, in [0, 1].
            initial: initial share of it.

        Raises:
            ConfigError: a length or share out of range.
        """
        check_lengths(warmup=warmup, decay=decay)
        check_share("final", final)
        check_share("initial", initial)
        self.initial = initial
        self.warmup = warmup
        self.decay = decay
        self.final = final

    def factor(self, update: int, updates: int) -> float:
        """See `Schedule`.

        Raises:
            ConfigError: the decay ends before the warm-up.
        """
        warmup = in_updates(self.warmup, updates, "warmup")
        end = in_updates(self.decay, updates, "decay")
        if end < warmup:
            raise _refusal(self.decay, f"an end after that of the warm-up, {warmup} updates of {updates}")
        if update < warmup:
            return warmup_factor(update, warmup, self.initial)
        progress = min(1.0, (update - warmup) / max(1, end - warmup))
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


class Step:
    """Linear warm-up, then a drop at every milestone."""

    def __init__(self, warmup: float, milestones: list[float], gamma: float, initial: float = 0.0) -> None:
        """
        Args:
            warmup: end of the warm-up.
            milestones: updates at which the learning rate drops.
            gamma: factor of each drop, in [0, 1].
            initial: initial share of the learning rate, in [0, 1].

        Raises:
            ConfigError: a length or factor out of range.
        """
        check_lengths(warmup=warmup)
        for milestone in milestones:
            check_lengths(milestones=milestone)
        check_share("gamma", gamma)
        check_share("initial", initial)
        self.initial = initial
        self.warmup = warmup
        self.milestones = milestones
        self.gamma = gamma

    def factor(self, update: int, updates: int) -> float:
        """See `Schedule`."""
        passed = sum(update >= in_updates(milestone, updates, "milestones") for milestone in self.milestones)
        return warmup_factor(update, in_updates(self.warmup, updates, "warmup"), self.initial) * self.gamma**passed


class WarmupStableDecay:
    """Linear warm-up, then constant, then a decay to zero by 1 - sqrt at the end.

    Paper: Xiong et al. 2025, arXiv:2504.08736, supplement on training of the generators ("WSD").
    """

    def __init__(self, warmup: float, initial: float, decay: float) -> None:
        """
        Args:
            warmup: end of the warm-up.
            initial: initial share of the learning rate, in [0, 1].
            decay: length of the decay, which ends with the run.

        Raises:
            ConfigError: a length or share out of range.
        """
        check_lengths(warmup=warmup, decay=decay)
        check_share("initial", initial)
        self.warmup = warmup
        self.initial = initial
        self.decay = decay

    def factor(self, update: int, updates: int) -> float:
        """See `Schedule`.

        Raises:
            ConfigError: warm-up and decay together are longer than the run.
        """
        warmup = in_updates(self.warmup, updates, "warmup")
        length = in_updates(self.decay, updates, "decay")
        if warmup + length > updates:
            raise _refusal(self.decay, f"at most what the warm-up leaves, {updates - warmup} updates of {updates}")
        if update < warmup:
            return warmup_factor(update, warmup, self.initial)
        begin = updates - length
        return 1.0 if update < begin or not length else 1 - math.sqrt(min(1.0, (update - begin) / length))
