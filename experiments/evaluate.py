"""Evaluate a tokenizer on any images: `python -m experiments.evaluate model=RUN_FOLDER data=image_folder data.root=photo.jpg`."""

import json
import logging
from typing import TYPE_CHECKING

from experiments.config.compose import Composition, main
from experiments.config.errors import config_errors
from experiments.evaluation.checks import check_evaluation, output_folder
from experiments.runs.folder import RESULT
from experiments.runs.model_folder import ModelFolder
from tokenizer.files import short_hash, write_text

if TYPE_CHECKING:
    from experiments.config.settings import EvaluateSettings

log = logging.getLogger("experiments.evaluate")  # __name__ is __main__ here

FIGURE = "images.png"


def run(composition: Composition) -> int:
    """Evaluate, print the table, write the result and the figure."""
    settings: EvaluateSettings = composition.settings
    check_evaluation(settings)
    from experiments.data.loading import ImageData
    from experiments.evaluation.figures import comparison, save_image
    from experiments.evaluation.reconstruction import evaluate
    from experiments.evaluation.results import plain
    from experiments.evaluation.results_table import show
    from experiments.evaluation.subjects import require_num_tokens, subjects_of
    from experiments.runs.build import build
    from experiments.runs.devices import choose_device

    device = choose_device(settings.device)
    source = build(settings.data)
    counts = settings.num_tokens or []
    subjects = subjects_of(settings.model, source, settings.seed, counts)
    for subject in subjects:
        with config_errors("image_size"):
            subject.model.grid(source.image_size)
        subject.model.to(device)
    require_num_tokens(subjects[0].model, source.image_size, counts, "num_tokens")
    loader = ImageData(source, settings.batch_size, settings.seed, settings.workers).val_dataloader()
    evaluation = evaluate(subjects, loader, device, settings.shown)
    model = ModelFolder(settings.model)
    weights = model.weights_digest()
    result = {
        "state": "done",
        "metrics": evaluation.values,
        "cards": evaluation.cards,
        "skipped": plain(evaluation.skipped),
        "unreadable": evaluation.unreadable,
        "data": composition.choices["data"],
        "model": {"folder": settings.model, "weights": weights},
    }
    inputs = [source.fingerprint(), settings.seed, weights, *([counts] if counts else [])]
    folder = output_folder(settings.output, "evaluations", model, short_hash(inputs))
    save_image(comparison(evaluation.images, evaluation.reconstructions), folder / FIGURE)
    write_text(folder / RESULT, json.dumps(result, indent=2, allow_nan=False) + "\n")
    show(result)
    log.info("result %s, figure %s", folder / RESULT, folder / FIGURE)
    return 0


if __name__ == "__main__":
    main("evaluate", run, "Evaluate a tokenizer on any images.")
