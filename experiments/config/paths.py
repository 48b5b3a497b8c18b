"""The home folder in paths: `~` at the beginning of any text of a configuration, whatever the key."""

import re
from pathlib import Path
from typing import Any

from experiments.config.errors import ConfigError

HOME = re.compile(r"~[\w.-]*(/.*)?", re.DOTALL)


def with_home(value: Any, key: str = "") -> Any:
    """A value with the home folder in place of `~`, or of `~NAME`, at the beginning of every text in it.

    Args:
        value: text, or plain containers of it.
        key: dotted key of the value, for messages.

    Raises:
        ConfigError: this machine has no such user, or no home folder.
    """
    if isinstance(value, dict):
        return {name: with_home(inner, f"{key}.{name}".lstrip(".")) for name, inner in value.items()}
    if isinstance(value, list):
        return [with_home(inner, key) for inner in value]
    if not isinstance(value, str) or not HOME.fullmatch(value):
        return value
    try:
        return str(Path(value).expanduser())
    except RuntimeError as error:
        raise ConfigError(key, value, reason="there is no such home folder") from error
