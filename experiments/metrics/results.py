"""What a set of metrics hands back."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Results:
    """Numbers by metric, the card of each, and why the others are absent, one line each."""

    values: dict[str, float] = field(default_factory=dict)
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
