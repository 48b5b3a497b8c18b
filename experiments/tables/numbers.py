"""The numbers in printed cells and labels."""

import math

THOUSANDS = {"k": 1024, "K": 1024, "M": 1024**2}


def number(cell: str | None) -> float | None:
    """The number that a printed cell shows, such as 11.37, 8k for 8192 or 100 %; None if it shows none."""
    text = (cell or "").strip().removesuffix("%").replace(",", "").strip()
    factor = THOUSANDS.get(text[-1:], 1)
    try:
        value = float(text[:-1] if factor > 1 else text) * factor
    except ValueError:
        return None
    return value if math.isfinite(value) else None
