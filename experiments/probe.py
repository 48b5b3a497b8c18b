"""Judge tokenizers by what can be generated from their tokens: `python -m experiments.probe tokenizer=[RUN,RUN,RUN]`."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from experiments.config.checks import check_setting
from experiments.config.compose import Composition, main
from experiments.config.errors import ConfigError
from experiments.probing.candidates import find_places
from tokenizer.generators.settings import Schedule

log = logging.getLogger("experiments.probe")  # __name__ is __main__ here

WHOLE = {"guidance.samples": 2, "linear.batch_size": 2, "linear.epochs": 1, "linear.warmup_epochs": 0, "linear.views": 1}
REAL: dict[str, tuple[Callable[[float], bool], str]] = {
    "guidance.floor": (lambda value: value >= 0, "of at least 0"),
    "guidance.step": (lambda value: value > 0, "above 0"),
    "guidance.unguided": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "linear.learning_rate": (lambda value: value > 0, "above 0"),
    "linear.momentum": (lambda value: 0 <= value < 1, "of at least 0 and below 1"),
    "linear.trust": (lambda value: value > 0, "above 0"),
}
"""What the numbers of a protocol are, as far as nothing is built from them before the training."""


def run(composition: Composition) -> int:
    """Judge everything that can be wrong, then probe each tokenizer, then report.

    Returns:
        0, or 1 if a stage of a tokenizer failed.
    """
    config = composition.config
    _check(config)
    places = find_places(config["tokenizer"], config.get("data"), config["image_size"], config["seed"])
    from experiments.probing.report import line, say, show, write
    from experiments.probing.study import Study
    from experiments.runs.devices import choose_device

    device = choose_device(config["device"])
    study = Study(config, str(composition.choices["protocol"]), str(composition.choices["trainer"]), device)
    prepared = study.prepare(places)
    found = []
    for entrant, training, cache in prepared:
        found.append(study.probe(entrant, training, cache))
        say(line(found[-1]))
    folder = study.folder / study.name(prepared)
    write(found, folder, study.protocol)
    show(found)
    log.info("report %s, picture %s", folder / "report.md", folder / "plane.png")
    return int(any(each.failed for each in found))


def _check(config: dict[str, Any]) -> None:
    """What can be judged without torch."""
    check_setting(config, "device", choices=("auto", "cpu", "cuda"))
    check_setting(config, "crops", choices=("as_data", "ten_crop"))
    for key, minimum in {"seed": 0, "workers": 0, "batch_size": 1, "passes": 1, "samples": 2}.items():
        check_setting(config, key, minimum=minimum)
    if config["reference"] and not Path(config["reference"]).is_file():
        raise ConfigError(f"reference={config['reference']}: there is no such file; expected an npz file of ADM; change `reference`")
    settings = {f"{part}.{key}": value for part in ("guidance", "linear") for key, value in config[part].items()}
    check_setting(settings, "guidance.schedule", choices=get_args(Schedule))
    for key, minimum in WHOLE.items():
        check_setting(settings, key, minimum=minimum)
    for key, (holds, expected) in REAL.items():
        if not isinstance(settings[key], int | float) or not holds(settings[key]):
            raise ConfigError(f"{key}={settings[key]}: expected a number {expected}; change `{key}`")
    start, floor = config["guidance"]["start"], config["guidance"]["floor"]
    if start is not None and not (isinstance(start, int | float) and start >= floor):
        raise ConfigError(f"guidance.start={start}: expected at least guidance.floor={floor}; change `guidance.start`")
    warmup, epochs = config["linear"]["warmup_epochs"], config["linear"]["epochs"]
    if warmup > epochs:
        raise ConfigError(f"linear.warmup_epochs={warmup}: expected at most linear.epochs={epochs}; change `linear.warmup_epochs`")


if __name__ == "__main__":
    main("probe", run, "Judge tokenizers by what can be generated from their tokens.")
