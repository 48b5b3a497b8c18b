"""Checks of the settings of `experiments.tokenize` beyond their types and bounds. Imports no torch."""

from pathlib import Path

from experiments.config.checks import check_output
from experiments.config.errors import ConfigError
from experiments.config.settings import TokenizeSettings
from experiments.data.files import check_data, check_images
from experiments.runs.model_folder import ModelFolder

INSPECTING = ("inspect", "sample", "tokenizer", "device", "output", "plugins")  # settings that inspect=FILE reads
IMAGE_FOLDER = "experiments.data.image_folder.ImageFolder"


def check(settings: TokenizeSettings) -> None:
    """Check that the tokenizer and the data exist, and that the output can be written.

    Raises:
        ConfigError: a setting that cannot be used.
        DataError: data that does not exist.
    """
    if settings.output:
        check_output(Path(settings.output), is_file=True)
    if settings.inspect or settings.tokenizer is None:
        return
    folder = ModelFolder(settings.tokenizer, "tokenizer")
    folder.require("tokenizer")
    folder.require_weights(settings.weights)
    check_images(settings.data)
    check_data(settings.data)
    if settings.crops == "ten_crop" and settings.data["_target_"] != IMAGE_FOLDER:
        raise ConfigError("crops", "ten_crop", reason="it needs whole images, data=image_folder", advice="change `crops` or `data`")
    views = 10 * len(settings.ten_crop_shares) if settings.crops == "ten_crop" else settings.passes * (2 if settings.flip else 1)
    if settings.num_tokens and len(settings.num_tokens) not in (1, views):
        raise ConfigError("num_tokens", settings.num_tokens, expected=f"one number, or one for each of the {views} views of an image")


def idle_in_tokenizing(settings: TokenizeSettings) -> dict[str, str]:
    """Settings of `experiments.tokenize` that change nothing beside the others, with the reason."""
    if settings.inspect:
        names = [name for name in (*TokenizeSettings.model_fields, "data") if name not in INSPECTING]
        return dict.fromkeys(names, "inspect=FILE tokenizes nothing")
    idle = {"sample": "it is the image that inspect=FILE decodes"}
    if settings.crops != "ten_crop":
        idle["ten_crop_shares"] = f"it is read with crops=ten_crop, and it is {settings.crops}"
    return idle
