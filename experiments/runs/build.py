"""From a part of a resolved configuration to the object that it describes."""

from typing import Any

from experiments.config.signatures import PACKAGES
from tokenizer import pretrained


def build(config: Any) -> Any:
    """Build what a configuration describes; `_target_`s may name classes and functions of `tokenizer` and `experiments`."""
    return pretrained.build(config, PACKAGES)
