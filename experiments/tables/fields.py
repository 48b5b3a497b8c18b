"""Types of the fields of a sweep file."""

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, StringConstraints, ValidationInfo

from experiments.config.errors import ConfigError, nearest

PLAIN = "text, a number, true, false, null or a list of them"


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _check_settings(settings: dict[str, Any]) -> dict[str, Any]:
    for key, value in settings.items():
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
Settings = Annotated[dict[str, Any], AfterValidator(_check_settings)]  # dotted keys with values, as on the command line
Experiment = Annotated[Text, AfterValidator(_check_experiment)]
LabelCell = Annotated[str, BeforeValidator(_label_cell)]  # numbers become text
