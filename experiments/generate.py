"""Samples of a generator: `python -m experiments.generate model=RUN_FOLDER n=64 classes=[3,cat] guidance=2.0`."""

import json
import logging

from experiments.config.compose import Composition, main
from experiments.config.idle import report_idle
from experiments.evaluation.checks import idle_in_generation
from experiments.evaluation.generate_job import GenerateJob, summary
from experiments.runs.folder import RESULT
from tokenizer.files import write_text

log = logging.getLogger("experiments.generate")  # __name__ is __main__ here


def run(composition: Composition) -> int:
    """Generate, or report what is there already."""
    job = GenerateJob(composition.settings)
    report_idle(composition.overrides, idle_in_generation(composition.settings, job.model))
    if job.is_done:
        log.info("%s\n%s holds these samples already; rerun=true generates them again", summary(job.stored), job.folder)
        return 0
    result = job.run()
    write_text(job.folder / RESULT, json.dumps(result, indent=2, allow_nan=False) + "\n")
    log.info("%s\nwrote %s", summary(result), ", ".join(map(str, [*job.files, job.folder / RESULT])))
    return 0


if __name__ == "__main__":
    main("generate", run, "Generate images with a trained generator.")
