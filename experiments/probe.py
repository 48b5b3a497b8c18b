"""Judge tokenizers by what can be generated from their tokens: `python -m experiments.probe tokenizer=[RUN,RUN,RUN]`."""

import logging
from pathlib import Path
from typing import Any

from experiments.compose import Composition, ConfigError, main
from experiments.config_checks import check_setting
from experiments.probing.entrants import find_places

log = logging.getLogger("experiments.probe")  # __name__ is __main__ here


def run(composition: Composition) -> int:
    """Judge everything that can be wrong, then probe each tokenizer, then report.

    Returns:
        0, or 1 if a stage of a tokenizer failed.
    """
    config = composition.config
    _check(config)
    places = find_places(config["tokenizer"], config.get("data"))
    from experiments import build
    from experiments.probing.report import line, say, show, write
    from experiments.probing.study import Study

    device = build.device(config["device"])
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
    guidance, linear = config["guidance"], config["linear"]
    if guidance["schedule"] not in ("constant", "step", "linear", "cosine"):
        raise ConfigError(
            f"guidance.schedule={guidance['schedule']}: expected constant, step, linear or cosine; change `guidance.schedule`"
        )
    if guidance["samples"] < 2:
        raise ConfigError(f"guidance.samples={guidance['samples']}: expected at least 2; change `guidance.samples`")
    if not guidance["step"] > 0:
        raise ConfigError(f"guidance.step={guidance['step']}: expected a number above 0; change `guidance.step`")
    if guidance["start"] is not None and guidance["start"] < guidance["floor"]:
        raise ConfigError(
            f"guidance.start={guidance['start']}: expected at least guidance.floor={guidance['floor']}; change `guidance.start`"
        )
    if not 0 <= linear["warmup_epochs"] <= linear["epochs"] or linear["views"] < 1 or linear["batch_size"] < 2:
        raise ConfigError(
            f"linear={linear}: expected a warm-up within the epochs, a view at least and two rows of a batch; change `linear`"
        )


if __name__ == "__main__":
    main("probe", run, "Judge tokenizers by what can be generated from their tokens.")
