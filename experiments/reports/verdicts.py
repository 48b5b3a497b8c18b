"""Verdicts on the claims of a table: by the printed cells, and by measured numbers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.evaluation.cards import comparable
from experiments.tables.claims import Operand, Values, decide, operands


@dataclass(frozen=True)
class Verdict:
    """Outcome of one claim on one set of numbers.

    Attributes:
        outcome: holds, fails or undecidable.
        why: reason of an undecidable one; agreement of several seeds.
    """

    outcome: str
    why: str = ""

    def __str__(self) -> str:
        joint = ": " if self.outcome == "undecidable" else ", "
        return f"{self.outcome}{joint}{self.why}" if self.why else self.outcome


def decide_published(when: str, published: Values) -> Verdict:
    """The verdict on the paper's own cells, misprints corrected, in the unit of results."""
    missing = [f"{row} {key}" for row, key in operands(when) if (row, key) not in published]
    return _verdict(decide(when, published), f"not published: {', '.join(missing)}" if missing else "")


def decide_measured(
    when: str,
    means: Values,
    by_seed: Mapping[int, Values],
    cards: Mapping[Operand, list[Mapping[str, Any]]],
    why_missing: Callable[[Operand], str],
) -> Verdict:
    """The verdict on measured numbers: on the means over seeds, and in how many seeds it is the same.

    Args:
        when: a predicate that `parse` accepts.
        means: over seeds, in the unit of results.
        by_seed: values of each seed.
        cards: of the values, one a seed.
        why_missing: reason why an operand has no value.
    """
    used = operands(when)
    if differing := _differing(used, cards):
        return Verdict("undecidable", f"cards differ: {differing}")
    outcome = decide(when, means)
    if outcome is None:
        return _verdict(None, _missing([operand for operand in used if operand not in means], why_missing))
    outcomes = [decide(when, by_seed[seed]) for seed in sorted(by_seed)]
    return _verdict(outcome, _agreement(outcome, [one for one in outcomes if one is not None]))


def _verdict(outcome: bool | None, why: str) -> Verdict:
    if outcome is None:
        return Verdict("undecidable", why or "division by zero")
    return Verdict("holds" if outcome else "fails", why)


def _missing(absent: Iterable[Operand], why_missing: Callable[[Operand], str]) -> str:
    """What is missing and why, the rows of one reason together."""
    rows: dict[tuple[str, str], list[str]] = {}
    for row, key in absent:
        rows.setdefault((key, why_missing((row, key))), []).append(row)
    return "; ".join(f"{key} of row{'s' * (len(names) > 1)} {', '.join(names)} is missing: {why}" for (key, why), names in rows.items())


def _agreement(outcome: bool, by_seed: list[bool]) -> str:
    """In how many seeds a claim holds, and whether they agree with their means; empty for a single seed."""
    if len(by_seed) < 2:
        return ""
    text = f"{sum(by_seed)} of {len(by_seed)} seeds"
    if all(one == outcome for one in by_seed):
        return text if outcome else f"holds in {text}"
    return f"on the means; the seeds disagree: holds in {text}"


def _differing(used: Iterable[Operand], cards: Mapping[Operand, list[Mapping[str, Any]]]) -> str:
    """The fields in which the cards of one metric differ, the first metric that has any; empty if all agree."""
    first: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for row, key in used:
        for card in cards.get((row, key), []):
            other, reference = first.setdefault(key, (row, card))
            if fields := comparable(reference, card):
                return "; ".join(f"{name} of {key} ({other}: {reference.get(name)}, {row}: {card.get(name)})" for name in fields)
    return ""
