"""Checks of an evaluation's settings that need no torch."""

from pathlib import Path

from experiments.config.checks import check_output
from experiments.config.errors import ConfigError
from experiments.config.settings import EvaluateSettings, GenerateSettings
from experiments.data.files import check_data, check_images
from experiments.evaluation import metrics
from experiments.runs.model_folder import ModelFolder
from tokenizer.weights import find_weights


def check_evaluation(settings: EvaluateSettings) -> None:
    """Check data and output.

    Raises:
        ConfigError, DataError: they cannot be used.
    """
    if settings.output:
        check_output(Path(settings.output), is_file=False)
    check_images(settings.data)
    check_data(settings.data)


def check_generation(settings: GenerateSettings, model: ModelFolder) -> None:
    """Check settings against the generator, data and weights of metrics.

    Raises:
        ConfigError, DataError: a setting does not fit.
        MissingWeightsError: Inception's weights are absent, and all metrics need them.
    """
    if settings.weights == "raw":  # `ema` is the default: without averaged weights it means those that there are
        model.require_weights("raw")
    _check_tokenizer(settings, model)
    if settings.guidance != 1 and not model.tokens["num_classes"]:
        raise ConfigError("guidance", settings.guidance, reason="this generator has no classes", expected="guidance=1")
    check_images(settings.data or {})
    check_data(settings.data or {})
    if settings.image_size != model.setting("image_size"):
        size = model.setting("image_size")
        advice = "leave `image_size` out"
        raise ConfigError("image_size", settings.image_size, reason=f"this generator makes images of {size} pixels", advice=advice)
    if settings.reference and not Path(settings.reference).is_file():
        raise ConfigError("reference", settings.reference, reason="there is no such file", expected="an npz file of ADM")
    if settings.metrics:
        check_samples(settings.n)
        if not settings.data:  # without data there is no classifier
            find_weights("inception")


def _check_tokenizer(settings: GenerateSettings, model: ModelFolder) -> None:
    """Refuse a folder without a tokenizer; loading it shows whether it is the right one."""
    folder = ModelFolder(settings.tokenizer or model.tokenizer["folder"], key="tokenizer")
    if not (folder.is_run or folder.is_export):
        reason = "" if settings.tokenizer else "the tokenizer that this generator was trained with is gone"
        raise ConfigError("tokenizer", str(folder.path), reason=reason, expected="a run folder or an exported tokenizer")


def check_samples(n: int) -> None:
    """Refuse too few samples for the metrics of a feature network, before any is generated.

    Args:
        n: number of samples.

    Raises:
        ConfigError: names the metrics and the smallest number that is enough.
    """
    lacking = [each for each in metrics.SAMPLE_METRICS if each.network and n < each.fewest_images]
    if lacking:
        fewest = max(each.fewest_images for each in lacking)
        names = ", ".join(each.key for each in lacking)
        raise ConfigError("n", n, reason=f"samples are too few for {names}", expected=f"at least {fewest}")


def output_folder(output: str | None, kind: str, model: ModelFolder, name: str) -> Path:
    """A folder of its own for each state of a model and all settings.

    Args:
        output: the setting, None for the default.
        kind: such as evaluations.
        model: the model; results of a run are in its folder, results of an export below runs/.
        name: digest of everything that changes the results.
    """
    if output:
        return Path(output)
    return (model.path / kind if model.is_run else Path("runs", kind, *model.path.resolve().parts[-2:])) / name
