"""Types of the fields of a sweep file, and the numbers in its printed cells and labels."""

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, StringConstraints, ValidationInfo

from experiments.config.errors import ConfigError, nearest

THOUSANDS = {"k": 1024, "K": 1024, "M": 1024**2}
PLAIN = "text, a number, true, false, null or a list of them"


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def check_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, if their values are plain and name no plugins."""
    for key, value in settings.items():
        if key.lstrip("+~") == "plugins":
            raise ConfigError(key, value, reason="plugins run code and are named on the command line", advice="add it there")
        if not _is_plain(value):
            raise ConfigError(key, value, expected=PLAIN)
    return settings


def _check_experiment(name: str, info: ValidationInfo) -> str:
    known = (info.context or {}).get("experiments")
    if known is not None and name not in known:
        raise ConfigError(value=name, expected="a file of conf/experiment", nearest=nearest(name, known))
    return name


def _label_cell(cell: Any) -> Any:
    return str(cell) if isinstance(cell, int | float) and not isinstance(cell, bool) and math.isfinite(cell) else cell


Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Name = Annotated[str, StringConstraints(pattern=r"^\w+$")]
Settings = Annotated[dict[str, Any], AfterValidator(check_settings)]  # dotted keys with values, as on the command line
Experiment = Annotated[Text, AfterValidator(_check_experiment)]
LabelCell = Annotated[str, BeforeValidator(_label_cell)]  # numbers become text


def number(cell: str | None) -> float | None:
    """The number that a printed cell shows, such as 11.37, 8k for 8192 or 100 %; None if it shows none."""
    text = (cell or "").strip().removesuffix("%").replace(",", "").strip()
    factor = THOUSANDS.get(text[-1:], 1)
    try:
        value = float(text[:-1] if factor > 1 else text) * factor
    except ValueError:
        return None
    return value if math.isfinite(value) else None
