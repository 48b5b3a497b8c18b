"""Pictures out of a generator: `python -m experiments.generate model=RUN_FOLDER n=64 classes=[3,cat] guidance=2.0`."""

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config.checks import check_output, check_setting, nearest
from experiments.config.compose import Composition, main
from experiments.config.errors import ConfigError
from experiments.config.signatures import show
from experiments.data.files import check_data, check_images
from experiments.evaluation.checks import check_samples
from experiments.evaluation.results import not_computed, plain, skipped_of
from experiments.runs.folder import CONFIG, RESULT, RunFolder
from experiments.runs.model_folder import ModelFolder
from experiments.runs.terminal import progress
from tokenizer.files import write_text
from tokenizer.generators.settings import Guidance, Sampling
from tokenizer.weights import find_weights, sha256

if TYPE_CHECKING:
    import torch

    from experiments.evaluation.metrics.samples import SampleMetrics
    from tokenizer.image_tokenizer import ImageTokenizer
    from tokenizer.interfaces import Generator

log = logging.getLogger("experiments.generate")  # __name__ is __main__ here

SETTINGS = (
    "weights", "n", "classes", "balanced", "guidance", "guidance_schedule", "guidance_start", "first_token", "temperature", "top_k",
    "top_p", "seed", "precision", "compile", "shown", "npz", "metrics", "reference",
)  # fmt: skip
"""What changes the files that are written."""
GRID, SAMPLES = "grid.png", "samples.npz"


def run(composition: Composition) -> int:
    """Generate, or report what is there already."""
    config = {"data": None, **composition.config}  # a group of which nothing is chosen leaves no key
    about = _recorded(config)
    _check(config, about)
    chosen = chosen_classes(config, about)
    sampling = _sampling(config)
    identity = _identity(config, about)
    folder = _output(config, identity)
    found = _found(config, folder, identity)
    files = [folder / GRID] + [folder / SAMPLES] * config["npz"]
    if found.get("identity") == identity and all(file.is_file() for file in files) and not config["rerun"]:
        log.info("%s\n%s holds these samples already; rerun=true generates them again", _summary(found), folder)
        return 0
    result = _generate(config, about, chosen, sampling, folder)
    write_text(folder / RESULT, json.dumps({"state": "done", "identity": identity, **result}, indent=2, allow_nan=False) + "\n")
    log.info("%s\nwrote %s", _summary(result), ", ".join(map(str, [*files, folder / RESULT])))
    return 0


def _recorded(config: dict[str, Any]) -> dict[str, Any]:
    """What the generator's folder says of it: its tokens, image size, tokenizer and, if they have names, its classes."""
    path = Path(config["model"])
    about: dict[str, Any] = {}
    if (path / "config.json").is_file():
        about = json.loads((path / "config.json").read_text())["trained_with"]
    elif (path / CONFIG).is_file():
        about = {**RunFolder(path).described, "image_size": RunFolder(path).config["image_size"]}
    if "tokenizer" not in about or "tokens" not in about:
        raise ConfigError(f"model={path}: expected a run folder or an export of a generator; change `model`")
    return about


def _check(config: dict[str, Any], about: Mapping[str, Any]) -> None:
    """What can be judged without torch."""
    check_setting(config, "device", choices=("auto", "cpu", "cuda"))
    check_setting(config, "weights", choices=("ema", "raw"))
    check_setting(config, "precision", choices=("fp32", "bf16"))
    for key, minimum in {"n": 1, "batch_size": 1, "shown": 1, "workers": 0}.items():
        check_setting(config, key, minimum=minimum)
    if config["weights"] == "raw":  # `ema` is the default: of a model that has no averages it means the weights that there are
        ModelFolder(config["model"]).require_weights("raw")
    _check_tokenizer(config, about)
    if config["guidance"] != 1 and not about["tokens"]["num_classes"]:
        raise ConfigError(f"guidance={config['guidance']}: this generator knows no classes to be guided by; set guidance=1")
    check_images(config["data"] or {})
    check_data(config["data"] or {})
    if config["image_size"] != about["image_size"]:
        given, made = config["image_size"], about["image_size"]
        raise ConfigError(f"image_size={given}: this generator makes pictures of {made} pixels; leave `image_size` out")
    for key in ("data", "reference"):
        if config[key] and not config["metrics"]:
            raise ConfigError(f"{key} is what samples are judged by: set metrics=true, or leave `{key}` out")
    if config["reference"] and not Path(config["reference"]).is_file():
        raise ConfigError(f"reference={config['reference']}: there is no such file; expected an npz file of ADM; change `reference`")
    if config["metrics"]:
        check_samples(config["n"])
        if not config["data"]:
            find_weights("inception")  # all metrics are Inception's then


def _check_tokenizer(config: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """That there is one; loading it shows whether it is the right one."""
    folder = Path(config["tokenizer"] or about["tokenizer"]["folder"])
    if not any((folder / name).is_file() for name in (CONFIG, "config.json")):
        gone = "" if config["tokenizer"] else "the tokenizer that this generator was trained with is gone; "
        raise ConfigError(f"tokenizer={folder}: {gone}expected a run folder or an exported tokenizer; change `tokenizer`")


def chosen_classes(config: Mapping[str, Any], about: Mapping[str, Any]) -> list[int] | None:
    """The numbers of the classes that are taken in turn, None to draw from all.

    Raises:
        ConfigError: there is no such class, or n is no multiple of what shall be balanced.
    """
    count, names = int(about["tokens"]["num_classes"]), about.get("classes") or []
    chosen: list[int] | None = None
    if config["classes"] is not None:
        words = config["classes"] if isinstance(config["classes"], list) else [config["classes"]]
        if not words or not count:
            reason = "expected at least one" if count else "this generator knows no classes"
            raise ConfigError(f"classes={show(config['classes'])}: {reason}; change `classes`, null draws them")
        chosen = [_class_number(word, names, count) for word in words]
    elif config["balanced"] and count:
        chosen = list(range(count))
    if config["balanced"] and chosen and config["n"] % len(chosen):
        below, size = config["n"] // len(chosen), len(chosen)
        near = " and ".join(str(size * multiple) for multiple in (below, below + 1) if multiple)
        raise ConfigError(f"n={config['n']}: balanced=true takes {size} classes equally often; nearest multiples: {near}; change `n`")
    return chosen


def _class_number(word: Any, names: list[str], count: int) -> int:
    """A class by number or by name; a name that is a number names itself first."""
    if str(word) in names:
        return names.index(str(word))
    if isinstance(word, int) and not isinstance(word, bool):
        if 0 <= word < count:
            return word
        raise ConfigError(f"classes: {word}: expected a number from 0 to {count - 1}{', or a name' if names else ''}; change `classes`")
    known = f"a number from 0 to {count - 1}" + (", or a name such as " + ", ".join(names[:3]) if names else "; its classes have no names")
    raise ConfigError(f"classes: {word}: there is no such class{nearest(str(word), names)}; expected {known}; change `classes`")


def _sampling(config: Mapping[str, Any]) -> Sampling:
    guidance = Guidance(config["guidance"], config["guidance_schedule"], config["guidance_start"], config["first_token"])
    return Sampling(config["temperature"], config["top_k"], config["top_p"], guidance, config["seed"])


def _identity(config: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of everything that changes the samples; a sample does not depend on its batch."""
    try:
        weights = ModelFolder(config["model"]).weights_digest()
    except ConfigError:
        raise ConfigError(f"model={config['model']} has no checkpoint yet; let its run reach `checkpoint_every` updates") from None
    settings = {key: config[key] for key in SETTINGS}
    judged_by = [config["data"], config["reference"] and sha256(Path(config["reference"]))]
    return hashlib.sha256(json.dumps([weights, about["tokenizer"]["digest"], settings, judged_by]).encode()).hexdigest()[:12]


def _output(config: Mapping[str, Any], identity: str) -> Path:
    """A folder of its own for every state of a generator and all settings."""
    path = Path(config["model"])
    if config["output"]:
        return Path(config["output"])
    inside = (path / CONFIG).is_file()
    return (path / "generations" if inside else Path("runs", "generations", *path.resolve().parts[-2:])) / identity


def _found(config: Mapping[str, Any], folder: Path, identity: str) -> dict[str, Any]:
    """What the output folder's result.json says.

    Raises:
        ConfigError: samples cannot be written there, or would overwrite something else.
    """
    check_output(folder, is_file=False)
    found = RunFolder(folder).result
    if (folder / CONFIG).is_file() or (found and "identity" not in found):
        raise ConfigError(f"output={folder}: it holds something else, not samples; change `output`")
    if found and found["identity"] != identity and not config["rerun"]:
        raise ConfigError(f"output={folder}: it holds other samples; change `output`, or rerun=true overwrites them")
    return found


def _generate(
    config: Mapping[str, Any], about: Mapping[str, Any], chosen: list[int] | None, sampling: Sampling, folder: Path
) -> dict[str, Any]:
    """Write picture and samples, and give what result.json tells."""
    import torch

    from experiments.evaluation import samples as generation
    from experiments.evaluation.cards import code_version
    from experiments.evaluation.figures import save_picture
    from experiments.runs.devices import choose_device
    from experiments.runs.models import tokenizer_of

    device = choose_device(config["device"])
    generator = _load_generator(config).to(device)
    tokenizer = tokenizer_of(config["model"], config["tokenizer"]).to(device)
    tokens = generator.tokens
    names = about.get("classes") or [str(number) for number in range(tokens.num_classes)]
    labels = generation.draw_labels(config["n"], chosen, tokens.num_classes, sampling.seed)
    metrics = _metrics(config, _subject(config, about), tokenizer, sampling, device) if config["metrics"] else None
    numbers, began = torch.arange(config["n"]), time.perf_counter()
    with progress(config["n"] * tokens.num_tokens, "tokens") as advance:
        batches = generation.generate_images(
            generator, tokenizer, labels, numbers, sampling, tokens.layout, device, config["batch_size"], advance
        )
        kept = generation.write_samples(batches, labels, folder / SAMPLES if config["npz"] else None, config["shown"], metrics)
    seconds = time.perf_counter() - began
    few = chosen is not None and 2 * len(set(chosen)) <= len(kept)
    sheet = generation.picture_of_samples(kept, labels[: len(kept)].tolist(), names, by_class=few or config["classes"] is not None)
    save_picture(sheet, folder / GRID)
    if not config["npz"]:
        (folder / SAMPLES).unlink(missing_ok=True)  # of an earlier call
    counts = Counter(labels.tolist())
    return {
        "settings": {key: config[key] for key in SETTINGS},
        "counts": {names[label]: counts[label] for label in sorted(counts) if names},
        "generator": str(config["model"]),
        "tokenizer": about["tokenizer"],
        "seconds": seconds,
        "tokens_per_second": config["n"] * tokens.num_tokens / seconds,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "code_version": code_version(),
        **_judged(metrics),
    }


def _load_generator(config: Mapping[str, Any]) -> "Generator":
    """As it shall run."""
    from experiments.runs.models import load_generator

    generator = load_generator(config["model"], config["weights"])[0]
    if config["precision"] == "bf16":
        generator.bfloat16()
    if config["compile"]:
        generator.compile_blocks()
    return generator


def _metrics(
    config: Mapping[str, Any], subject: Any, tokenizer: "ImageTokenizer", sampling: Sampling, device: "torch.device"
) -> "SampleMetrics":
    """What the samples are judged by."""
    from experiments.evaluation.sample_evaluators import SampleEvaluators
    from experiments.runs.build import build

    source = build(config["data"]) if config["data"] else None
    reference = Path(config["reference"]) if config["reference"] else None
    evaluators = SampleEvaluators(source, reference, tokenizer, device, config["batch_size"], config["workers"])
    return evaluators.metrics(config["image_size"], subject, sampling.seed, sampling.summary)


def _subject(config: Mapping[str, Any], about: Mapping[str, Any]) -> Any:
    """Which weights generate: a run need not keep averages, and an export says what it was made of."""
    folder = RunFolder(Path(config["model"]))
    if "weights" in about or not (folder.path / CONFIG).is_file():
        return about.get("weights", "ema")
    return config["weights"] if folder.config["ema_decay"] else "raw"


def _judged(metrics: "SampleMetrics | None") -> dict[str, Any]:
    """What the metrics say, under the names of logs."""
    if metrics is None:
        return {"metrics": {}, "cards": {}, "skipped": {}}
    found = metrics.compute()
    groups: dict[str, dict[str, Any]] = {"metrics": found.values, "cards": found.cards, "skipped": plain(found.skipped)}
    return {group: {f"gen/{name}": entry for name, entry in entries.items()} for group, entries in groups.items()}


def _summary(result: Mapping[str, Any]) -> str:
    """One line on how it went, and one for each number."""
    speed = f"{result['settings']['n']} samples in {result['seconds']:.1f} s, {result['tokens_per_second']:.0f} tokens a second"
    numbers = [f"{name} {value:.4g}" for name, value in result["metrics"].items()]
    return "\n".join([speed, *numbers, *not_computed(skipped_of(result).items())])


if __name__ == "__main__":
    main("generate", run, "Generate pictures with a trained generator.")
