"""Checks of an evaluation's settings that need no torch."""

from pathlib import Path
from typing import Any

from experiments.config.checks import check_output
from experiments.config.errors import ConfigError, nearest
from experiments.config.settings import EvaluateSettings, GenerateSettings
from experiments.data.archives import check_archive
from experiments.data.files import check_data, check_images
from experiments.evaluation import metrics
from experiments.runs.model_folder import ModelFolder
from tokenizer.weights import FILES, find_weights


def check_evaluation(settings: EvaluateSettings) -> None:
    """Check data and output.

    Raises:
        ConfigError, DataError: they cannot be used.
    """
    ModelFolder(settings.model).require("tokenizer")
    if settings.output:
        check_output(Path(settings.output), is_file=False)
    check_images(settings.data)
    check_data(settings.data)


def check_generation(settings: GenerateSettings, model: ModelFolder) -> None:
    """Check settings against the generator, data and weights of metrics.

    Raises:
        ConfigError, DataError: a setting does not fit.
        MissingWeightsError: weights are absent that all metrics need.
    """
    if settings.weights == "raw":  # `ema` is the default: without averaged weights it means those that there are
        model.require_weights("raw")
    _check_tokenizer(settings, model)
    if settings.guidance != 1 and not model.tokens["num_classes"]:
        raise ConfigError("guidance", settings.guidance, reason="this generator has no classes", expected="guidance=1")
    check_images(settings.data or {})
    check_data(settings.data or {})
    if settings.image_size != (size := model.setting("image_size")):
        advice = "leave `image_size` out"
        raise ConfigError("image_size", settings.image_size, reason=f"this generator makes images of {size} pixels", advice=advice)
    if settings.reference:
        check_archive(Path(settings.reference), "reference", "an npz file of ADM")
    if settings.metrics:
        check_samples(settings.n)
        others = {each.network for each in metrics.SAMPLE_METRICS if each.network} - {"inception"}
        has_other = settings.reference is not None and any(FILES[name].path.is_file() for name in others)
        if not (settings.data or has_other):  # no classifier, and no distance by another network
            find_weights("inception")


def idle_in_generation(settings: GenerateSettings, model: ModelFolder) -> dict[str, str]:
    """Settings of a generation that change nothing beside the others or with this generator, with the reason."""
    idle: dict[str, str] = {}
    if settings.guidance == 1:
        idle |= dict.fromkeys(("guidance_schedule", "guidance_start", "guidance_end", "first_token"), "guidance=1 is no guidance")
    if settings.guidance_schedule != "step":
        idle.setdefault("guidance_start", f"guidance_schedule={settings.guidance_schedule} does not read it, only step does")
    if settings.guidance_schedule == "constant":
        idle.setdefault("first_token", "guidance_schedule=constant has the whole scale at the first token")
    if settings.balanced and not model.tokens["num_classes"]:
        idle["balanced"] = "this generator has no classes"
    if settings.top_k == 1:
        idle |= dict.fromkeys(("temperature", "top_p"), "top_k=1 takes the most likely index")
    if settings.top_k >= model.tokens["codebook_size"]:
        idle["top_k"] = f"there are {model.tokens['codebook_size']} indices"
    if not settings.metrics:
        idle |= dict.fromkeys(("image_size", "workers"), "it is read with metrics=true alone")
    return idle | model.idle_weights(settings.weights)


def _check_tokenizer(settings: GenerateSettings, model: ModelFolder) -> None:
    """Refuse a folder without a tokenizer; loading it shows whether it is the right one."""
    folder = ModelFolder(settings.tokenizer or model.tokenizer["folder"], key="tokenizer")
    if settings.tokenizer:
        folder.require("tokenizer")
    if not (folder.is_run or folder.is_export):
        reason = "the tokenizer that this generator was trained with is gone"
        raise ConfigError("tokenizer", str(folder.path), reason=reason, expected="a run folder or an exported tokenizer")


def check_samples(n: int) -> None:
    """Refuse too few samples for the metrics of a feature network, before any is generated.

    Raises:
        ConfigError: names the metrics and the smallest number that is enough.
    """
    lacking = [each for each in metrics.SAMPLE_METRICS if each.network and n < each.fewest_images]
    if lacking:
        fewest = max(each.fewest_images for each in lacking)
        names = ", ".join(each.key for each in lacking)
        raise ConfigError("n", n, reason=f"samples are too few for {names}", expected=f"at least {fewest}")


def select_classes(classes: Any, balanced: bool, n: int, count: int, names: list[str]) -> list[int] | None:
    """The numbers of the classes that are taken in turn, None to draw from all.

    Args:
        classes: a name or number, or a list of them; None for no selection.
        balanced: whether all classes must have equally many samples.
        n: number of samples.
        count: number of classes.
        names: their names; empty if they have none.

    Raises:
        ConfigError: there is no such class, or n is no multiple of the number of balanced classes.
    """
    selected: list[int] | None = None
    if classes is not None:
        entries = classes if isinstance(classes, list) else [classes]
        if not entries or not count:
            reason = "" if count else "this generator has no classes"
            raise ConfigError("classes", classes, reason=reason, expected="at least one class, or null to draw them")
        selected = [_number(entry, names, count) for entry in entries]
    elif balanced and count:
        selected = list(range(count))
    if balanced and selected and n % len(selected):
        below, size = n // len(selected), len(selected)
        multiples = " or ".join(str(size * multiple) for multiple in (below, below + 1) if multiple)
        raise ConfigError("n", n, reason=f"balanced=true takes {size} classes equally often", expected=f"a multiple such as {multiples}")
    return selected


def _number(entry: Any, names: list[str], count: int) -> int:
    """A class by name or by number; names come first, as they may be numbers."""
    if str(entry) in names:
        return names.index(str(entry))
    if isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < count:
        return entry
    named = f", or a name such as {', '.join(names[:3])}" if names else "; its classes have no names"
    raise ConfigError("classes", entry, expected=f"a number from 0 to {count - 1}{named}", nearest=nearest(str(entry), names))


def output_folder(output: str | None, kind: str, model: ModelFolder, name: str) -> Path:
    """`output`, or a folder for each state of a model and all settings: in the folder of a run, below runs/ for an export.

    Args:
        kind: such as evaluations.
        name: digest of everything that changes the results.
    """
    if output:
        return Path(output)
    return (model.path / kind if model.is_run else Path("runs", kind, *model.path.resolve().parts[-2:])) / name
