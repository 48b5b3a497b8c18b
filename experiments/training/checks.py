"""Checks of a training's configuration that need no torch, and the name of its folder."""

from collections.abc import Mapping
from typing import Any

from experiments.config.checks import check_setting
from experiments.data.files import check_data
from experiments.training.schedules import in_updates

MINIMA = {"seed": 0, "workers": 0, "log_every": 1, "validate_every": 1, "checkpoint_every": 1, "keep_checkpoints": 1}


def check(config: dict[str, Any]) -> None:
    """Check the settings of a composed configuration.

    Raises:
        ConfigError: a setting out of its range.
        DataError: data that does not exist.
    """
    for key, minimum in MINIMA.items():
        check_setting(config, key, minimum=minimum)
    if "discriminator_start" in config:
        in_updates(config["discriminator_start"], config["updates"], "discriminator_start")
    if "samples_shown" in config:
        check_setting(config, "samples_shown", minimum=0)
    check_data(config["data"])


def run_name(choices: Mapping[str, Any]) -> str:
    """The folder of a run's folder: its experiment, or its quantizer or generator."""
    return str(choices.get("experiment") or choices.get("quantizer") or choices["generator"])
