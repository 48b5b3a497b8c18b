"""What a paper concludes from a table, as predicates that are read, never run as code.

A predicate is made of `row('name')['metric key']`, numbers, + - * /, comparisons, `and`, `or`, `not`, `min`, `max`, `abs` and
parentheses, nothing else. A value is in the unit of results: a usage of 3.38 % is 0.0338.
"""

import ast
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.config.checks import nearest
from experiments.config.errors import ConfigError
from experiments.evaluation.cards import comparable
from experiments.tables.sweep_file import Claim

Operand = tuple[str, str]
"""Name of a row and key of a metric."""
LONGEST = 1000
LARGEST = 1e12
ARITHMETIC: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
COMPARISONS: dict[type, Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
FUNCTIONS: dict[str, Callable[..., float]] = {"min": min, "max": max, "abs": abs}
ALLOWED = "row('name')['metric'], numbers, + - * /, comparisons, and, or, not, min, max, abs"


@dataclass(frozen=True)
class Verdict:
    """Of one claim on one set of numbers.

    Attributes:
        outcome: holds, fails or undecidable.
        why: of an undecidable one; of several seeds, how many agree.
    """

    outcome: str
    why: str = ""

    def __str__(self) -> str:
        joint = ": " if self.outcome == "undecidable" else ", "
        return f"{self.outcome}{joint}{self.why}" if self.why else self.outcome


def parse(when: str, rows: Iterable[str], keys: Iterable[str]) -> ast.expr:
    """The tree of a predicate, all of whose parts are allowed.

    Args:
        when: the predicate.
        rows: the names that it may use.
        keys: the metrics that it may use.

    Raises:
        ConfigError: something in it is not allowed or not known; names it.
    """
    if len(when) > LONGEST:
        raise ConfigError(f"`when` has {len(when)} characters, expected at most {LONGEST}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SyntaxWarning)
            tree = ast.parse(when.strip(), mode="eval").body
        _Grammar(list(rows), list(keys)).predicate(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"`{when}` cannot be read: {getattr(error, 'msg', None) or error}") from error
    return tree


def operands(when: str) -> list[Operand]:
    """The values that a predicate uses, in its order, each once."""
    tree = ast.parse(when.strip(), mode="eval")
    return list(dict.fromkeys(_operand(node) for node in ast.walk(tree) if isinstance(node, ast.Subscript)))


def judge(when: str, values: Mapping[Operand, float]) -> bool | None:
    """Whether a predicate holds; None if a value that decides it is missing, or it divides by zero."""
    return _truth(ast.parse(when.strip(), mode="eval").body, values)


def judge_published(claim: Claim, published: Mapping[Operand, float]) -> Verdict:
    """The verdict on the paper's own cells, misprints corrected.

    Args:
        claim: one that `parse` accepts.
        published: cells in the unit of results.
    """
    missing = [f"{row} {key}" for row, key in operands(claim.when) if (row, key) not in published]
    return _decided(judge(claim.when, published), f"not published: {', '.join(missing)}" if missing else "")


def judge_measured(
    claim: Claim,
    scale: str,
    means: Mapping[Operand, float],
    by_seed: Mapping[int, Mapping[Operand, float]],
    cards: Mapping[Operand, list[Mapping[str, Any]]],
    why_missing: Callable[[Operand], str],
) -> Verdict:
    """The verdict on measured numbers: on the means over seeds, and in how many seeds it is the same.

    Args:
        claim: one that `parse` accepts.
        scale: of the runs.
        means: over seeds, in the unit of results.
        by_seed: the values of each seed.
        cards: of the values, one a seed.
        why_missing: says why an operand has no value.
    """
    if scale not in claim.scales:
        return Verdict("undecidable", f"not meant for scale {scale}")
    used = operands(claim.when)
    differing = _differing(used, cards)
    if differing:
        return Verdict("undecidable", f"cards differ: {differing}")
    outcome = judge(claim.when, means)
    if outcome is None:
        return _decided(None, _missing([operand for operand in used if operand not in means], why_missing))
    outcomes = [judge(claim.when, by_seed[seed]) for seed in sorted(by_seed)]
    decided = [one for one in outcomes if one is not None]
    return Verdict("holds" if outcome else "fails", _agreement(outcome, decided))


def _missing(lacking: list[Operand], why_missing: Callable[[Operand], str]) -> str:
    """What is missing and why, the rows of one reason together."""
    rows: dict[tuple[str, str], list[str]] = {}
    for row, key in lacking:
        rows.setdefault((key, why_missing((row, key))), []).append(row)
    return "; ".join(f"{key} of row{'s' * (len(names) > 1)} {', '.join(names)} is missing: {why}" for (key, why), names in rows.items())


def _agreement(outcome: bool, by_seed: list[bool]) -> str:
    """In how many seeds a claim holds, and whether they agree with their means; nothing of a single seed."""
    if len(by_seed) < 2:
        return ""
    holding = sum(by_seed)
    text = f"{holding} of {len(by_seed)} seeds"
    if all(one == outcome for one in by_seed):
        return text if outcome else f"holds in {text}"
    return f"on the means; the seeds disagree: holds in {text}"


def _decided(outcome: bool | None, missing: str) -> Verdict:
    if outcome is None:
        return Verdict("undecidable", missing or "division by zero")
    return Verdict("holds" if outcome else "fails")


def _differing(used: list[Operand], cards: Mapping[Operand, list[Mapping[str, Any]]]) -> str:
    """The fields in which the cards of one metric differ, the first metric that has any; empty if all agree."""
    for key in dict.fromkeys(key for _, key in used):
        found = [(row, card) for row, other in used if other == key for card in cards.get((row, other), [])]
        for row, card in found[1:]:
            fields = comparable(found[0][1], card)
            if fields:
                first = found[0][0]
                return "; ".join(f"{name} of {key} ({first}: {found[0][1].get(name)}, {row}: {card.get(name)})" for name in fields)
    return ""


class _Grammar:
    """Accepts a tree, or names the first part that does not belong."""

    def __init__(self, rows: list[str], keys: list[str]) -> None:
        self.rows = rows
        self.keys = keys

    def predicate(self, node: ast.expr) -> None:
        """Something that holds or not."""
        if isinstance(node, ast.BoolOp):
            for value in node.values:
                self.predicate(value)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self.predicate(node.operand)
        elif isinstance(node, ast.Compare) and all(type(op) in COMPARISONS for op in node.ops):
            for value in (node.left, *node.comparators):
                self.number(value)
        else:
            raise ConfigError(f"`{_shown(node)}`: expected a comparison; allowed: {ALLOWED}")

    def number(self, node: ast.expr) -> None:
        """Something with a value."""
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            if node.value > LARGEST:
                raise ConfigError(f"`{_shown(node)}`: expected a number up to {LARGEST:g}")
            return
        if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
            self.number(node.left)
            self.number(node.right)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            self.number(node.operand)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and not node.keywords:
            self._call(node, node.func.id)
        elif isinstance(node, ast.Subscript):
            self._cell(node)
        else:
            raise ConfigError(f"`{_shown(node)}`: expected a number; allowed: {ALLOWED}")

    def _call(self, node: ast.Call, name: str) -> None:
        if (name == "abs") != (len(node.args) == 1):
            raise ConfigError(f"`{_shown(node)}`: {name} takes {'one value' if name == 'abs' else 'two values or more'}")
        for argument in node.args:
            self.number(argument)

    def _cell(self, node: ast.Subscript) -> None:
        call, key = node.value, node.slice
        right = (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == "row"
            and len(call.args) == 1
            and not call.keywords
            and all(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in (call.args[0], key))
        )
        if not right:
            raise ConfigError(f"`{_shown(node)}`: expected row('name')['metric']")
        row, metric = _operand(node)
        if row not in self.rows:
            raise ConfigError(f"`{_shown(node)}`: there is no row {row}{nearest(row, self.rows)}; known: {', '.join(self.rows)}")
        if metric not in self.keys:
            raise ConfigError(f"`{_shown(node)}`: there is no metric {metric}{nearest(metric, self.keys)}; known: {', '.join(self.keys)}")


def _operand(node: ast.Subscript) -> Operand:
    call: Any = node.value
    key: Any = node.slice
    return str(call.args[0].value), str(key.value)


def _shown(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _truth(node: ast.expr, values: Mapping[Operand, float]) -> bool | None:
    """Of a predicate that may lack values: what decides it alone decides it."""
    if isinstance(node, ast.BoolOp):
        parts = [_truth(value, values) for value in node.values]
        decisive = isinstance(node.op, ast.Or)
        return decisive if decisive in parts else None if None in parts else not decisive
    if isinstance(node, ast.UnaryOp):
        inner = _truth(node.operand, values)
        return None if inner is None else not inner
    assert isinstance(node, ast.Compare)
    try:
        numbers = [_value(part, values) for part in (node.left, *node.comparators)]
    except (KeyError, ZeroDivisionError):
        return None
    return all(COMPARISONS[type(op)](left, right) for op, left, right in zip(node.ops, numbers, numbers[1:], strict=False))


def _value(node: ast.expr, values: Mapping[Operand, float]) -> float:
    if isinstance(node, ast.Constant):
        assert isinstance(node.value, int | float)
        return float(node.value)
    if isinstance(node, ast.BinOp):
        return ARITHMETIC[type(node.op)](_value(node.left, values), _value(node.right, values))
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, values)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Name)
        return FUNCTIONS[node.func.id](*(_value(argument, values) for argument in node.args))
    assert isinstance(node, ast.Subscript)
    return values[_operand(node)]
