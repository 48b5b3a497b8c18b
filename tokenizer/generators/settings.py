"""Settings of sampling: guidance and its schedules, filters, seed. Imports no torch, so that they are checked before it is loaded.

Guidance and its schedules: GigaTok (arXiv:2504.08736) section 4 and its released code; LlamaGen (arXiv:2406.06525).
Paper and code differ in the first token under the step schedule: in the paper it is unguided, like the rest of the first 18 %; in the
released code it has the full scale, because the prefill ignores the schedule. `Guidance.first_token` selects one of the two.
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
        scale: the largest s, at least 0; 1 disables guidance.
        schedule: s as a function of r = t / (N - 1) for token t = 0 .. N - 1. constant: s; step: 1 while r < start, then s;
            linear: from 1 to s; cosine: 1 + (s - 1) (1 - cos(pi r)) / 2.
        start: start of the step schedule, a fraction of the tokens in [0, 1].
        first_token: "full" uses the full scale for token 0 with any schedule, as the released code does.
        end: end of guidance with any schedule, a fraction of the tokens in [0, 1]: 1 while r > end.

    Raises:
        ValueError: a value is out of range.
    """

    scale: float = 1.0
    schedule: Schedule = "constant"
    start: float = 0.18
    first_token: FirstToken = "schedule"
    end: float = 1.0

    def __post_init__(self) -> None:
        _require(math.isfinite(self.scale) and self.scale >= 0, "guidance", self.scale, "a number of at least 0; 1 is no guidance")
        _require(self.schedule in get_args(Schedule), "guidance_schedule", self.schedule, f"one of {', '.join(get_args(Schedule))}")
        _require(0 <= self.start <= 1, "guidance_start", self.start, "a share of the tokens in [0, 1]")
        _require(0 <= self.end <= 1, "guidance_end", self.end, "a share of the tokens in [0, 1]")
        if self.schedule == "step":
            _require(self.start <= self.end, "guidance_end", self.end, f"at least guidance_start={self.start}")
        _require(self.first_token in get_args(FirstToken), "first_token", self.first_token, f"one of {', '.join(get_args(FirstToken))}")

    def scale_at(self, position: int, num_tokens: int) -> float:
        """s of token number `position` of `num_tokens`; exactly 1 where that token is unguided."""
        if position == 0 and self.first_token == "full":
            return self.scale
        ratio = position / max(num_tokens - 1, 1)
        if ratio > self.end:
            return 1.0
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
    """Settings for drawing choices from logits; the filters are applied in the order of the attributes.

    Attributes:
        temperature: divisor of the logits, > 0.
        top_k: number of most likely entries that each sub-vocabulary keeps, more if others are as likely as the last; 0 keeps all.
        top_p: probability in (0, 1] that the most likely entries must reach together; less likely entries are removed, ties with the
            last one are kept. 1 keeps all.
        guidance: guidance, applied before all filters.
        seed: seed of all random streams, in [0, 2^64).

    Raises:
        ValueError: a value is out of range.
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
        """All settings but the seed, for cards: the scale if nothing else differs from the defaults, text otherwise."""
        guidance, parts = self.guidance, []
        if guidance.scale != 1 and guidance.schedule != "constant":
            parts.append(f"{guidance.schedule} from {guidance.start:g}" if guidance.schedule == "step" else guidance.schedule)
            parts += ["first token guided fully"] * (guidance.first_token == "full")
        parts += [f"guided up to {guidance.end:g}"] * (guidance.scale != 1 and guidance.end < 1)
        parts += [f"temperature {self.temperature:g}"] * (self.temperature != 1)
        parts += [f"top-k {self.top_k}"] * (self.top_k > 0) + [f"top-p {self.top_p:g}"] * (self.top_p < 1)
        return ", ".join([f"{guidance.scale:g}", *parts]) if parts else float(guidance.scale)


def _require(holds: bool, key: str, value: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"{key}={value}: expected {expected}; change `{key}`")
