"""Checks of a probe's settings that need no torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from experiments.config.checks import check_setting
from experiments.config.errors import ConfigError
from tokenizer.generators.settings import Schedule

MINIMA = {"seed": 0, "workers": 0, "batch_size": 1, "passes": 1, "samples": 2}
PROTOCOL_MINIMA = {"guidance.samples": 2, "linear.batch_size": 2, "linear.epochs": 1, "linear.warmup_epochs": 0, "linear.views": 1}
NUMBERS: dict[str, tuple[Callable[[float], bool], str]] = {
    "guidance.floor": (lambda value: value >= 0, "of at least 0"),
    "guidance.step": (lambda value: value > 0, "above 0"),
    "guidance.unguided": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "linear.learning_rate": (lambda value: value > 0, "above 0"),
    "linear.momentum": (lambda value: 0 <= value < 1, "of at least 0 and below 1"),
    "linear.trust": (lambda value: value > 0, "above 0"),
}


def check(config: dict[str, Any]) -> None:
    """Check the settings of a probe.

    Raises:
        ConfigError: a setting out of its range.
    """
    check_setting(config, "device", choices=("auto", "cpu", "cuda"))
    check_setting(config, "crops", choices=("as_data", "ten_crop"))
    for key, minimum in MINIMA.items():
        check_setting(config, key, minimum=minimum)
    if config["reference"] and not Path(config["reference"]).is_file():
        raise ConfigError("reference", config["reference"], reason="there is no such file", expected="an npz file of ADM")
    settings = {f"{part}.{key}": value for part in ("guidance", "linear") for key, value in config[part].items()}
    check_setting(settings, "guidance.schedule", choices=get_args(Schedule))
    for key, minimum in PROTOCOL_MINIMA.items():
        check_setting(settings, key, minimum=minimum)
    for key, (holds, expected) in NUMBERS.items():
        if not isinstance(settings[key], int | float) or not holds(settings[key]):
            raise ConfigError(key, settings[key], expected=f"a number {expected}")
    start, floor = settings["guidance.start"], settings["guidance.floor"]
    if start is not None and not (isinstance(start, int | float) and start >= floor):
        raise ConfigError("guidance.start", start, expected=f"at least guidance.floor={floor}")
    warmup, epochs = settings["linear.warmup_epochs"], settings["linear.epochs"]
    if warmup > epochs:
        raise ConfigError("linear.warmup_epochs", warmup, expected=f"at most linear.epochs={epochs}")
