"""Values of metrics, their cards, and the metrics that are absent. Imports no torch."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tokenizer.weights import FILES


@dataclass(frozen=True)
class Skipped:
    """Why a metric is absent.

    Attributes:
        reason: one line.
        weights: name in `tokenizer.weights.FILES` of the file that is missing, None for any other reason.
    """

    reason: str
    weights: str | None = None


@dataclass
class Results:
    """Values by metric, the card of each, and why other metrics are absent."""

    values: dict[str, float] = field(default_factory=dict)
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: dict[str, Skipped] = field(default_factory=dict)


def joined(parts: list[Results]) -> Results:
    """All results in one; a metric that one part has is skipped by no other."""
    whole = Results()
    for part in parts:
        whole.values |= part.values
        whole.cards |= part.cards
        whole.skipped |= part.skipped
    whole.skipped = {name: skipped for name, skipped in whole.skipped.items() if name not in whole.values}
    return whole


def plain(skipped: Mapping[str, Skipped]) -> dict[str, dict[str, Any]]:
    """Plain containers for JSON, read again by `skipped_of`."""
    return {name: asdict(entry) for name, entry in skipped.items()}


def skipped_of(result: Mapping[str, Any]) -> dict[str, Skipped]:
    """The skipped metrics of the content of a JSON file; in files of older versions they are reasons alone."""
    entries = result.get("skipped", {}).items()
    return {name: Skipped(**entry) if isinstance(entry, Mapping) else Skipped(str(entry)) for name, entry in entries}


def computable(result: Mapping[str, Any]) -> list[str]:
    """The metrics that a result lacks because of weights that are on this machine now."""
    return [name for name, skipped in skipped_of(result).items() if skipped.weights and FILES[skipped.weights].path.is_file()]


def not_computed(skipped: Iterable[tuple[str, Skipped]]) -> list[str]:
    """A line for each reason with all its metrics, each once."""
    names: dict[str, dict[str, None]] = {}
    for name, entry in skipped:
        names.setdefault(entry.reason, {})[name] = None
    return [f"not computed: {', '.join(group)}. {reason}" for reason, group in names.items()]
