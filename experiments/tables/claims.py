"""Claims of a paper as predicates over a table, parsed and evaluated without `eval`.

A predicate is made of `row('name')['metric key']`, numbers, + - * /, comparisons, `and`, `or`, `not`, `min`, `max`, `abs` and
parentheses. Values are in the unit of results: a usage of 3.38 % is 0.0338.
"""

import ast
import operator
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

from experiments.config.errors import ConfigError, nearest

Operand = tuple[str, str]  # name of a row, key of a metric
Values = Mapping[Operand, float]
LONGEST, LARGEST = 1000, 1e12  # characters of a predicate, numbers in it
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
ALLOWED = "row('name')['metric'], numbers, + - * /, comparisons, and, or, not, abs of one value, min and max of several"


def parse(when: str, rows: Collection[str], keys: Collection[str]) -> None:
    """Check a predicate, which may use rows and metrics of these names.

    Raises:
        ConfigError: something in it is not allowed or not known; names it.
    """
    if len(when) > LONGEST:
        raise ConfigError("when", reason=f"has {len(when)} characters", expected=f"at most {LONGEST}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SyntaxWarning)
            tree = _tree(when)
        _check_predicate(tree, rows, keys)
    except ConfigError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError("when", when, reason=f"cannot be read: {getattr(error, 'msg', None) or error}") from error


def operands(when: str) -> list[Operand]:
    """The values that a predicate uses, in its order, each once."""
    return list(dict.fromkeys(_operand(node) for node in ast.walk(_tree(when)) if isinstance(node, ast.Subscript)))


def decide(when: str, values: Values) -> bool | None:
    """Whether a predicate holds; None if a value that decides it is missing, or it divides by zero."""
    return _truth(_tree(when), values)


def _tree(when: str) -> ast.expr:
    return ast.parse(when.strip(), mode="eval").body


def _operand(node: Any) -> Operand:
    return str(node.value.args[0].value), str(node.slice.value)


def _check_predicate(node: ast.expr, rows: Collection[str], keys: Collection[str]) -> None:
    """Accept what is true or false, or name the first part that does not belong."""
    match node:
        case ast.BoolOp(values=parts) | ast.UnaryOp(op=ast.Not(), operand=ast.expr() as parts):
            for part in parts if isinstance(parts, list) else [parts]:
                _check_predicate(part, rows, keys)
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in COMPARISONS for op in ops):
            for part in (left, *others):
                _check_number(part, rows, keys)
        case _:
            raise _refused(node, f"a comparison; allowed: {ALLOWED}")


def _check_number(node: ast.expr, rows: Collection[str], keys: Collection[str]) -> None:
    """Accept what has a value, or name the first part that does not belong."""
    parts: list[ast.expr] = []
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            if number > LARGEST:
                raise _refused(node, f"a number up to {LARGEST:g}")
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            parts = [left, right]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=inner) | ast.Call(func=ast.Name(id="abs"), args=[inner], keywords=[]):
            parts = [inner]
        case ast.Call(func=ast.Name(id="min" | "max"), args=[_, _, *_] as values, keywords=[]):
            parts = values
        case ast.Subscript(
            value=ast.Call(func=ast.Name(id="row"), args=[ast.Constant(value=str(row))], keywords=[]), slice=ast.Constant(value=str(key))
        ):
            for name, known, kind in ((row, rows, "row"), (key, keys, "metric")):
                if name not in known:
                    raise _refused(node, f"a {kind} of {', '.join(known)}", nearest(name, known))
        case _:
            raise _refused(node, f"a number; allowed: {ALLOWED}")
    for part in parts:
        _check_number(part, rows, keys)


def _refused(node: ast.expr, expected: str, near: str = "") -> ConfigError:
    text = ast.unparse(node)
    return ConfigError("when", text if len(text) <= 80 else f"{text[:77]}...", expected=expected, nearest=near)


def _truth(node: ast.expr, values: Values) -> bool | None:
    """Value of a predicate; None if neither the present values nor a part that alone is decisive give one."""
    match node:
        case ast.BoolOp(op=op, values=parts):
            decisive, truths = isinstance(op, ast.Or), [_truth(part, values) for part in parts]
            return decisive if decisive in truths else None if None in truths else not decisive
        case ast.UnaryOp(operand=inner):
            truth = _truth(inner, values)
            return None if truth is None else not truth
        case ast.Compare(left=left, ops=ops, comparators=others):
            try:
                numbers = [_number(part, values) for part in (left, *others)]
            except (KeyError, ZeroDivisionError):  # a value is missing
                return None
            return all(COMPARISONS[type(op)](one, other) for op, one, other in zip(ops, numbers, numbers[1:], strict=False))
    raise AssertionError(ast.dump(node))


def _number(node: ast.expr, values: Values) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.BinOp(left=left, op=op, right=right):
            return ARITHMETIC[type(op)](_number(left, values), _number(right, values))
        case ast.UnaryOp(op=op, operand=inner):
            return -_number(inner, values) if isinstance(op, ast.USub) else _number(inner, values)
        case ast.Call(func=ast.Name(id=name), args=parts):
            return FUNCTIONS[name](*(_number(part, values) for part in parts))
        case ast.Subscript():
            return values[_operand(node)]
    raise AssertionError(ast.dump(node))
