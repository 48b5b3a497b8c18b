"""The tokenizers of a probe, checked before anything is trained: first without torch, then with their weights and their data."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from experiments.config.errors import ConfigError, TesseraError
from experiments.config.origins import check_origins
from experiments.data.files import check_data, check_images
from experiments.runs.model_folder import ModelFolder

if TYPE_CHECKING:
    from experiments.data.source import ImageSource
    from tokenizer.image_tokenizer import ImageTokenizer
    from tokenizer.interfaces import TokenSpec


@dataclass(frozen=True)
class TokenizerLocation:
    """Folder of a tokenizer, and the data that it is probed on.

    Attributes:
        folder: run folder or export.
        name: short name, different for all tokenizers of a probe.
        data: configuration of the images.
    """

    folder: Path
    name: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A tokenizer that can be probed.

    Attributes:
        location: its folder and data.
        model: in eval mode on the CPU.
        weights: averaged ones of a run, those of an export.
        digest: digest of the weights.
        source: images.
        tokens: layout of their tokens.
    """

    location: TokenizerLocation
    model: "ImageTokenizer"
    weights: Literal["ema", "raw"]
    digest: str
    source: "ImageSource"
    tokens: "TokenSpec"


def find_locations(tokenizer: str | list[str], data: dict[str, Any] | None, image_size: int, seed: int) -> list[TokenizerLocation]:
    """The folders of the setting `tokenizer`; imports no torch.

    Args:
        tokenizer: one folder or several.
        data: configuration of the images; None for the images that all tokenizers were trained on.
        image_size: side of the images in pixels.
        seed: seed of the images' crops, whatever that of the tokenizers' runs was.

    Raises:
        ConfigError: a folder without a trained tokenizer or named twice, an exported one without `data`, or tokenizers that were
            trained on different images.
    """
    folders = [Path(folder) for folder in ([tokenizer] if isinstance(tokenizer, str) else tokenizer)]
    if not folders:
        raise ConfigError("tokenizer", [], expected="a run or exported folder, or several")
    for number, folder in enumerate(folders):
        ModelFolder(folder, "tokenizer").require("tokenizer")
        if any(folder.resolve() == other.resolve() for other in folders[:number]):
            raise ConfigError("tokenizer", folder, reason="is named twice")
    names = zip(folders, _names(folders), strict=True)
    locations = [TokenizerLocation(folder, name, data or _training_data(folder, seed)) for folder, name in names]
    for location in locations:
        check_images(location.data)
        check_data(location.data)
        _check_same_images(locations[0], location)
    trained_size = locations[0].data["image_size"]
    if data is None and image_size != trained_size:
        raise ConfigError("image_size", image_size, reason=f"the tokenizers were trained on {trained_size} pixels", advice="add data=...")
    return locations


def _check_same_images(first: TokenizerLocation, other: TokenizerLocation) -> None:
    keys = [key for key in sorted({*first.data, *other.data} - {"root"}) if first.data.get(key) != other.data.get(key)]
    if keys:
        changes = ", ".join(f"{key}: {first.data.get(key)} -> {other.data.get(key)}" for key in keys)
        reason = f"{first.name} and {other.name} were trained on different images ({changes})"
        raise ConfigError("tokenizer", reason=reason, expected="the same images for all", advice="choose data=... and image_size=...")


def _names(folders: list[Path]) -> list[str]:
    """The shortest ends of the paths that differ, with at least two parts."""
    parts = [folder.resolve().parts[1:] for folder in folders]
    for length in range(2, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return ["/".join(part) for part in parts]


def _training_data(folder: Path, seed: int) -> dict[str, Any]:
    """The configuration of the images that a run's tokenizer was trained on, with the seed of the probe."""
    run = ModelFolder(folder, "tokenizer")
    if run.is_export:
        raise run.error("an export does not record its training data", advice="add data=...")
    data = run.config["data"]
    try:
        check_origins(data, "data")  # the run may come from anybody
    except ConfigError as error:
        raise run.error(str(error)) from error
    return {**data, "seed": seed} if "seed" in data else dict(data)


def load_candidate(location: TokenizerLocation) -> Candidate:
    """Load a tokenizer and its data.

    Raises:
        ConfigError: a tokenizer that cannot be probed, with its folder.
    """
    from experiments.data.source import ImageSource
    from experiments.runs.build import build
    from experiments.runs.models import digest_of, load_tokenizer
    from experiments.tokens.writing import tokens_of

    folder = location.folder
    try:
        source = build(location.data)
        if not isinstance(source, ImageSource):
            raise ConfigError("data", type(source).__name__, expected="images")
        model, _ = load_tokenizer(folder)
        tokens = tokens_of(model, source)
        weights = ModelFolder(folder).weights or "ema"
    except TesseraError as error:
        raise ConfigError("tokenizer", folder, reason=str(error)) from error
    if len(source.train) == 0 or len(source.val) == 0:
        reason = f"its data has {len(source.train)} training and {len(source.val)} evaluation images"
        raise ConfigError("tokenizer", folder, reason=reason, expected="some of both", advice="change `data`")
    return Candidate(location, model, weights, digest_of(model), source, tokens)
