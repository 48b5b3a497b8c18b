"""Checks of the settings of `experiments.tokenize` that need no torch."""

from pathlib import Path
from typing import Any

from experiments.config.checks import check_output, check_setting
from experiments.config.errors import ConfigError
from experiments.data.files import check_data, check_images
from experiments.runs.model_folder import ModelFolder

IMAGE_FOLDER = "experiments.data.image_folder.ImageFolder"
MINIMA = {"batch_size": 1, "passes": 1, "workers": 0, "seed": 0}
CHOICES = {"device": ("auto", "cpu", "cuda"), "weights": ("ema", "raw"), "precision": ("fp32", "bf16"), "crops": ("as_data", "ten_crop")}


def check(config: dict[str, Any]) -> None:
    """Check the settings of a composed configuration.

    Raises:
        ConfigError: a setting that cannot be used.
        DataError: data that does not exist.
    """
    for key, choices in CHOICES.items():
        check_setting(config, key, choices=choices)
    for key, minimum in MINIMA.items():
        check_setting(config, key, minimum=minimum)
    if config["output"]:
        check_output(Path(config["output"]), is_file=True)
    if config["inspect"]:
        return
    if config["tokenizer"] is None:
        raise ConfigError("tokenizer", None, expected="a run folder or an exported tokenizer, or inspect=FILE")
    folder = ModelFolder(config["tokenizer"], "tokenizer")
    folder.require("tokenizer")
    folder.require_weights(config["weights"])
    check_images(config["data"])
    check_data(config["data"])
    if config["crops"] == "ten_crop":
        _check_ten_crop(config)


def _check_ten_crop(config: dict[str, Any]) -> None:
    if config["data"]["_target_"] != IMAGE_FOLDER:
        raise ConfigError("crops", "ten_crop", reason="it needs whole images, data=image_folder", advice="change `crops` or `data`")
    if config["flip"] or config["passes"] != 1:
        reason = "its crops include the mirror images, and one pass has them all"
        raise ConfigError("crops", "ten_crop", reason=reason, advice="leave `flip` and `passes` out")
    shares = config["ten_crop_shares"]
    if not isinstance(shares, list) or not shares or any(not isinstance(share, int | float) or share < 1 for share in shares):
        raise ConfigError("ten_crop_shares", shares, expected="a list of numbers of at least 1, such as [1.1,1.05]")
