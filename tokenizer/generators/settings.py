"""The settings of sampling: guidance and its schedules, filters, seed. Imports no torch, so that a verb can judge them first.

Guidance and its schedules: GigaTok (arXiv:2504.08736) section 4 and its released code; LlamaGen (arXiv:2406.06525).
Paper and code differ in the first token under the step schedule: the paper leaves it unguided like the rest of the first 18 %,
the released code guides it fully, because its prefill does not know the schedule. `Guidance.first_token` says which.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

Schedule = Literal["constant", "step", "linear", "cosine"]
FirstToken = Literal["schedule", "full"]


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: logits l = l_u + s (l_c - l_u) of the unconditional l_u and the conditional l_c.

    Attributes:
        scale: the largest s, at least 0; 1 is no guidance.
        schedule: of s over r = t / (N - 1), t = 0 .. N - 1 the token: constant s; step, 1 while r < start, then s;
            linear, from 1 to s; cosine, 1 + (s - 1) (1 - cos(pi r)) / 2.
        start: of the step schedule, share of the tokens in [0, 1].
        first_token: "full" gives token 0 the whole scale whatever the schedule, as released code does.

    Raises:
        ValueError: a value out of range.
    """

    scale: float = 1.0
    schedule: Schedule = "constant"
    start: float = 0.18
    first_token: FirstToken = "schedule"

    def __post_init__(self) -> None:
        _require(math.isfinite(self.scale) and self.scale >= 0, "guidance", self.scale, "a number of at least 0; 1 is no guidance")
        _require(self.schedule in get_args(Schedule), "guidance_schedule", self.schedule, f"one of {', '.join(get_args(Schedule))}")
        _require(0 <= self.start <= 1, "guidance_start", self.start, "a share of the tokens in [0, 1]")
        _require(self.first_token in get_args(FirstToken), "first_token", self.first_token, f"one of {', '.join(get_args(FirstToken))}")

    def scale_at(self, position: int, num_tokens: int) -> float:
        """s of token number `position` of `num_tokens`; exactly 1 where that token is unguided."""
        if position == 0 and self.first_token == "full":
            return self.scale
        ratio = position / max(num_tokens - 1, 1)
        if self.schedule == "step":
            return 1.0 if ratio < self.start else self.scale
        if self.schedule == "linear":
            return 1.0 + (self.scale - 1.0) * ratio
        if self.schedule == "cosine":
            return 1.0 + (self.scale - 1.0) * (1.0 - math.cos(math.pi * ratio)) / 2.0
        return self.scale

    def scales(self, num_tokens: int) -> list[float]:
        """s of every token."""
        return [self.scale_at(position, num_tokens) for position in range(num_tokens)]


@dataclass(frozen=True)
class Sampling:
    """How choices are drawn from logits; the filters act in the order of the attributes.

    Attributes:
        temperature: the logits are divided by it, > 0.
        top_k: only the k most likely entries of each sub-vocabulary are kept, and those as likely as the last of them; 0 keeps all.
        top_p: only the most likely entries are kept, up to the one that brings their probability to p, in (0, 1], and those as
            likely as that one; 1 keeps all. At least one is kept.
        guidance: acts before all others.
        seed: of all random streams, in [0, 2^64).

    Raises:
        ValueError: a value out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: Guidance = field(default_factory=Guidance)
    seed: int = 0

    def __post_init__(self) -> None:
        expected = "a number above 0; for the most likely choice set top_k=1"
        _require(math.isfinite(self.temperature) and self.temperature > 0, "temperature", self.temperature, expected)
        _require(self.top_k >= 0, "top_k", self.top_k, "a whole number of at least 0; 0 keeps all")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "a number above 0 and up to 1; 1 keeps all")
        _require(0 <= self.seed < 2**64, "seed", self.seed, "a whole number of at least 0 and below 2^64")

    @property
    def summary(self) -> float | str:
        """All but the seed, for the card of a number: the scale if nothing else differs from the defaults, words otherwise."""
        guidance, words = self.guidance, []
        if guidance.scale != 1 and guidance.schedule != "constant":
            words.append(f"{guidance.schedule} from {guidance.start:g}" if guidance.schedule == "step" else guidance.schedule)
            words += ["first token guided fully"] * (guidance.first_token == "full")
        words += [f"temperature {self.temperature:g}"] * (self.temperature != 1)
        words += [f"top-k {self.top_k}"] * (self.top_k > 0) + [f"top-p {self.top_p:g}"] * (self.top_p < 1)
        return ", ".join([f"{guidance.scale:g}", *words]) if words else float(guidance.scale)


def _require(holds: bool, key: str, value: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"{key}={value}: expected {expected}; change `{key}`")
