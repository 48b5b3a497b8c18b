"""Compare tokenizers by generating from their tokens: `python -m experiments.probe tokenizer=[RUN,RUN,RUN]`."""

import logging
from pathlib import Path

from experiments.config.compose import Composition, main
from experiments.config.errors import ConfigError
from experiments.config.overrides import for_children
from experiments.probing.candidates import check_groups, find_locations

log = logging.getLogger("experiments.probe")  # __name__ is __main__ here


def run(composition: Composition) -> int:
    """Check all settings, probe each tokenizer, and report.

    Returns:
        0, or 1 if a stage of a tokenizer failed.
    """
    config = composition.config
    if config["reference"] and not Path(config["reference"]).is_file():
        raise ConfigError("reference", config["reference"], expected="an npz file of ADM")
    check_groups(config["training"]["groups"], composition.draft.folders)
    locations = find_locations(config["tokenizer"], config.get("data"), config["image_size"], config["seed"])
    from experiments.probing.report import line, make_report, write
    from experiments.probing.study import Study
    from experiments.reports.terminal import show_report
    from experiments.runs.devices import choose_device
    from experiments.runs.terminal import print_line

    device = choose_device(config["device"])
    study = Study(
        config, str(composition.choices["protocol"]), str(composition.choices["trainer"]), device, for_children(composition.overrides)
    )
    prepared = study.prepare(locations)
    results = []
    for candidate, training, cache in prepared:
        results.append(study.probe(candidate, training, cache))
        print_line(line(results[-1]))
    folder = study.folder / study.name(prepared)
    report = make_report(results, study.protocol, config["seed"])
    write(results, report, study.protocol, folder)
    show_report(report)
    log.info("report in %s", folder)
    return int(any(result.failed for result in results))


if __name__ == "__main__":
    main("probe", run, "Compare tokenizers by generating from their tokens.")
