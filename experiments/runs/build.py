"""From a part of a resolved configuration to the object that it describes."""

from collections.abc import Mapping
from typing import Any

from experiments.config.errors import config_errors
from experiments.config.signatures import PACKAGES
from tokenizer import pretrained


def build(config: Any, place: str = "") -> Any:
    """Build the object that a configuration describes, inner parts first.

    Args:
        config: a dict with `_target_`, a class or function of `tokenizer` or `experiments`, and its arguments; or a list or dict of such;
            or a plain value, which is passed through.
        place: dotted key of `config` in the whole configuration, for messages.

    Raises:
        ConfigError: a constructor refuses its arguments; `place` is the dotted key of that part.
    """
    if isinstance(config, list | tuple):
        return [build(entry, f"{place}.{number}") for number, entry in enumerate(config)]
    if not isinstance(config, Mapping):
        return config
    node = {key: build(value, f"{place}.{key}".lstrip(".")) for key, value in config.items()}
    if "_target_" not in node:
        return node
    with config_errors(place or node["_target_"]):
        return pretrained.build(node, PACKAGES)  # its arguments are built: they are passed through
