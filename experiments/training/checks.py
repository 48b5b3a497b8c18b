"""Checks of a training's configuration that need no torch, and the name of its folder."""

from collections.abc import Mapping
from typing import Any

from experiments.data.files import check_data
from experiments.training.schedules import in_updates


def check(config: dict[str, Any]) -> None:
    """Check what the types and bounds of the settings leave.

    Raises:
        ConfigError: a start of the discriminator that is neither a fraction nor a number of updates.
        DataError: data that does not exist.
    """
    if "discriminator_start" in config:
        in_updates(config["discriminator_start"], config["updates"], "discriminator_start")
    check_data(config["data"])


def run_name(choices: Mapping[str, Any]) -> str:
    """The folder of a run's folder: its experiment, or its quantizer or generator."""
    return str(choices.get("experiment") or choices.get("quantizer") or choices["generator"])
