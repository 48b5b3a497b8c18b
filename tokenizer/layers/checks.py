"""Checks of constructor arguments and inputs. Every message has the value, the expectation and the configuration key to change."""

import math
from collections.abc import Iterable

from torch import Tensor


def require_at_least(key: str, value: float, minimum: float) -> None:
    """Refuse a number below `minimum`, infinity and NaN."""
    if not minimum <= value < math.inf:
        raise ValueError(f"{key}={value}, expected at least {minimum}; change {key}")


def require_positive(key: str, value: float) -> None:
    """Refuse zero, negative numbers, infinity and NaN."""
    if not 0 < value < math.inf:
        raise ValueError(f"{key}={value}, expected above 0; change {key}")


def require_one_of(key: str, value: str, choices: Iterable[str]) -> None:
    """Refuse an unknown choice."""
    if value not in choices:
        raise ValueError(f"{key}={value}, expected one of {', '.join(choices)}; change {key}")


def require_side(images: Tensor, smallest: int, key: str) -> None:
    """Refuse images (B, 3, H, W) with a side below `smallest` pixels, which `key` determines."""
    height, width = images.shape[-2:]
    if min(height, width) < smallest:
        raise ValueError(f"images have {height} x {width} pixels, expected at least {smallest} per side; raise image_size or lower {key}")
