"""The tokenizers that are probed, judged before anything is trained: first without torch, then with their weights and their data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from experiments.config.errors import ConfigError, spelled
from experiments.data.files import check_data, check_images
from experiments.runs.folder import CONFIG, RunFolder, differences
from experiments.runs.model_folder import ModelFolder

if TYPE_CHECKING:
    from experiments.data.source import ImageSource
    from tokenizer.image_tokenizer import ImageTokenizer
    from tokenizer.interfaces import TokenSpec

EXPORTED = "config.json"


@dataclass(frozen=True)
class Place:
    """Where a tokenizer lies, and the data that it is probed on.

    Attributes:
        folder: of its run, or an exported one.
        name: that tells it from the others.
        data: the configuration of the pictures.
    """

    folder: Path
    name: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Entrant:
    """A tokenizer that can be probed.

    Attributes:
        place: where it lies.
        model: in eval mode on the CPU.
        weights: of the model: the averaged ones of a run, those that an export holds.
        digest: of the weights.
        source: the pictures.
        tokens: what the tokenizer makes of them.
    """

    place: Place
    model: "ImageTokenizer"
    weights: Literal["ema", "raw"]
    digest: str
    source: "ImageSource"
    tokens: "TokenSpec"


def find_places(tokenizer: str | list[str], data: dict[str, Any] | None, image_size: int, seed: int) -> list[Place]:
    """The folders that the setting `tokenizer` names; imports no torch.

    Args:
        tokenizer: one folder or several.
        data: of the pictures; None for the pictures that all tokenizers were trained on.
        image_size: of the pictures, in pixels.
        seed: of the pictures' crops, whatever that of the tokenizers' runs was.

    Raises:
        ConfigError: a folder that holds no trained tokenizer, one that is named twice, an exported one without `data`, or tokenizers
            that were trained on different pictures.
    """
    words = [tokenizer] if isinstance(tokenizer, str) else list(tokenizer)
    if not words:
        raise ConfigError("tokenizer=[]: expected a run or exported folder, or several; change `tokenizer`")
    folders = [Path(word).expanduser() for word in words]
    for number, folder in enumerate(folders):
        _check_folder(folder)
        if any(folder.resolve() == other.resolve() for other in folders[:number]):
            raise ConfigError(f"tokenizer={folder} is named twice; change `tokenizer`")
    places = [Place(folder, name, data or _trained_on(folder, seed)) for folder, name in zip(folders, _names(folders), strict=True)]
    first = places[0]
    for place in places:
        check_images(place.data)
        check_data(place.data)
        if changes := [f"{key}: {a} -> {b}" for key, a, b in differences(first.data, place.data) if key != "root"]:
            raise ConfigError(
                f"{first.name} and {place.name} were trained on different pictures ({', '.join(changes)}): "
                "the same are needed to compare them; choose data=... and image_size=..."
            )
    if data is None and image_size != first.data["image_size"]:
        trained = first.data["image_size"]
        raise ConfigError(
            f"image_size={image_size}: the tokenizers were trained on pictures of {trained} pixels; add data=... to change it"
        )
    return places


def _check_folder(folder: Path) -> None:
    if (folder / EXPORTED).is_file():
        return
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"tokenizer={folder}: expected a run folder or an exported tokenizer; change `tokenizer`")
    run = RunFolder(folder)
    if "tokenizer" not in run.config["task"]:
        raise ConfigError(f"tokenizer={folder} is the run of a generator, expected one of a tokenizer; change `tokenizer`")
    if not run.checkpoint_files:
        raise ConfigError(f"tokenizer={folder} has no checkpoint, its run is {run.state}; let it reach `checkpoint_every` updates first")


def _names(folders: list[Path]) -> list[str]:
    """The shortest ends of the paths that differ, of two parts at least."""
    parts = [folder.resolve().parts[1:] for folder in folders]
    for length in range(2, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return ["/".join(part) for part in parts]


def _trained_on(folder: Path, seed: int) -> dict[str, Any]:
    """The configuration of the pictures that a run's tokenizer was trained on, with the probe's seed."""
    if (folder / EXPORTED).is_file():
        raise ConfigError(f"tokenizer={folder} is an export, which does not say what it was trained on; add data=...")
    data = RunFolder(folder).config["data"]
    return {**data, "seed": seed} if "seed" in data else dict(data)


def load_entrant(place: Place) -> Entrant:
    """Load a tokenizer and look at its data.

    Raises:
        ConfigError: what cannot be probed, with the folder's name.
    """
    from experiments.data.source import ImageSource
    from experiments.runs.build import build
    from experiments.runs.models import digest_of, load_tokenizer
    from experiments.tokens.writing import tokens_of

    try:
        source = build(place.data)
        if not isinstance(source, ImageSource):
            raise ConfigError(f"data={type(source).__name__}: expected pictures; change `data`")
        model, _ = load_tokenizer(place.folder)
        tokens = tokens_of(model, source)
        weights = ModelFolder(place.folder).weights or "ema"
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError(f"tokenizer={place.folder}: {error}") from error
    if len(source.train) == 0 or len(source.val) == 0:
        counts = f"{len(source.train)} training and {len(source.val)} evaluation pictures"
        raise ConfigError(f"tokenizer={place.folder}: its data has {counts}, expected some of both; change `data`")
    return Entrant(place, model, weights, digest_of(model), source, tokens)


def training_words(entrant: Entrant, cache: Path, config: Mapping[str, Any], trainer: str) -> list[str]:
    """The words of `experiments.train` for the generator of an entrant, but for machine and data the same for all of them.

    Args:
        entrant: whose tokens are learned.
        cache: of its tokens.
        config: of the verb.
        trainer: the chosen file of that group.
    """
    training = config["training"]
    words = ["task=generator", "data=indices", f"trainer={trainer}", *_flat(training["groups"]), *_flat(training["settings"])]
    words += [_word(f"trainer.{key}", value) for key, value in config["trainer"].items() if key != "_target_"]
    words += [_word(key, config[key]) for key in ("seed", "workers", "runs_folder")]
    return [*words, _word("data.file", str(cache)), _word("tokenizer", str(entrant.place.folder.resolve()))]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in settings.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [_word(prefix + key, value)]
    return found


def _word(key: str, value: Any) -> str:
    """`key=value`; text in quotes, so that a path may hold signs that mean something to Hydra."""
    if isinstance(value, str) and not value.replace("_", "").replace("-", "").isalnum():
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"{key}='{escaped}'"
    return f"{key}={spelled(value)}"
