"""Compare tokenizers by generating from their tokens: `python -m experiments.probe tokenizer=[RUN,RUN,RUN]`."""

import logging
from pathlib import Path

from experiments.config.checks import check_folder
from experiments.config.compose import Composition, main
from experiments.data.archives import check_archive
from experiments.probing.candidates import find_locations, load_candidate
from experiments.probing.generators import check_groups

log = logging.getLogger("experiments.probe")  # __name__ is __main__ here


def run(composition: Composition) -> int:
    """Check all settings, probe each tokenizer, and report.

    Returns:
        0, or 1 if a stage of a tokenizer failed.
    """
    config = composition.config
    if config["reference"]:
        check_archive(Path(config["reference"]), "reference", "an npz file of ADM")
    check_folder(Path(config["runs_folder"]), "runs_folder")
    check_groups(config["training"]["groups"], composition.draft.folders)
    locations = find_locations(config["tokenizer"], config.get("data"), config["image_size"], config["seed"])
    from experiments.probing.report import line, make_report, write
    from experiments.probing.results import read_result
    from experiments.probing.study import Study
    from experiments.reports.terminal import show_report
    from experiments.runs.devices import choose_device
    from experiments.runs.terminal import print_line

    study = Study(composition, choose_device(config["device"]))
    candidates = [load_candidate(location) for location in locations]
    results = []
    with study.lock(candidates):
        for candidate, training, cache in study.prepare(candidates):
            study.probe(candidate, training, cache)
            results.append(read_result(study.result_file(candidate.location), candidate.location))
            print_line(line(results[-1]))
    folder = study.folder / study.name(candidates)
    report = make_report(results, study.protocol, config["seed"])
    write(results, report, folder)
    show_report(report)
    log.info("report in %s", folder)
    failed = [result for result in results if result.failed]
    for result in failed:
        log.warning("%s failed: %s", result.location.name, result.failed)
    return int(bool(failed))


if __name__ == "__main__":
    main("probe", run, "Compare tokenizers by generating from their tokens.")
