"""What a set of metrics hands back."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Results:
    """Numbers by metric, the card of each, and why the others are absent, one line each."""

    values: dict[str, float] = field(default_factory=dict)
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def joined(parts: list[Results]) -> Results:
    """All results in one; what one part has, no other skips."""
    whole = Results()
    for part in parts:
        whole.values |= part.values
        whole.cards |= part.cards
        whole.skipped |= part.skipped
    whole.skipped = {name: why for name, why in whole.skipped.items() if name not in whole.values}
    return whole
