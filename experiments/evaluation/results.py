"""What a set of metrics hands back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenizer.weights import FILES


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


def computable(result: Mapping[str, Any]) -> list[str]:
    """The metrics that a result lacks for want of weights which lie on this machine now."""
    here = [file.filename for file in FILES.values() if file.path.is_file()]
    said = [text for name in here for text in (f"{name}, expected at", f"{name} is absent")]  # of a file that is not there
    return [metric for metric, why in result.get("skipped", {}).items() if any(text in why for text in said)]
