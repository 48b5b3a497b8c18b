"""Classes of samples as `classes` and `balanced` select them. Imports no torch."""

from typing import Any

from experiments.config.errors import ConfigError, nearest


def select_classes(classes: Any, balanced: bool, n: int, count: int, names: list[str]) -> list[int] | None:
    """The numbers of the classes that are taken in turn, None to draw from all.

    Args:
        classes: a name or number, or a list of them; None for no selection.
        balanced: whether all classes must have equally many samples.
        n: number of samples.
        count: number of classes.
        names: their names; empty if they have none.

    Raises:
        ConfigError: there is no such class, or n is no multiple of the number of balanced classes.
    """
    selected: list[int] | None = None
    if classes is not None:
        entries = classes if isinstance(classes, list) else [classes]
        if not entries or not count:
            reason = "" if count else "this generator has no classes"
            raise ConfigError("classes", classes, reason=reason, expected="at least one class, or null to draw them")
        selected = [_number(entry, names, count) for entry in entries]
    elif balanced and count:
        selected = list(range(count))
    if balanced and selected and n % len(selected):
        below, size = n // len(selected), len(selected)
        multiples = " or ".join(str(size * multiple) for multiple in (below, below + 1) if multiple)
        raise ConfigError("n", n, reason=f"balanced=true takes {size} classes equally often", expected=f"a multiple such as {multiples}")
    return selected


def _number(entry: Any, names: list[str], count: int) -> int:
    """A class by name or by number; names come first, as they may be numbers."""
    if str(entry) in names:
        return names.index(str(entry))
    if isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < count:
        return entry
    named = f", or a name such as {', '.join(names[:3])}" if names else "; its classes have no names"
    raise ConfigError("classes", entry, expected=f"a number from 0 to {count - 1}{named}", nearest=nearest(str(entry), names))
