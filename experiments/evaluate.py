"""Judge a tokenizer on any pictures: `python -m experiments.evaluate model=RUN_FOLDER data=image_folder data.root=photo.jpg`."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from experiments.config.checks import check_output, check_setting
from experiments.config.compose import Composition, main
from experiments.data.files import check_data, check_images
from experiments.runs.folder import CONFIG
from experiments.runs.model_folder import ModelFolder
from tokenizer.files import write_text

log = logging.getLogger("experiments.evaluate")  # __name__ is __main__ here


def run(composition: Composition) -> int:
    """Evaluate, print the table, write the result and the picture."""
    config = composition.config
    _check(config)
    from experiments.data.loading import ImageData
    from experiments.evaluation.figures import comparison, save_picture
    from experiments.evaluation.reconstruction import evaluate
    from experiments.evaluation.results import plain
    from experiments.evaluation.results_table import show
    from experiments.evaluation.subjects import subjects_of
    from experiments.runs.build import build
    from experiments.runs.devices import choose_device

    device = choose_device(config["device"])
    source = build(config["data"])
    subjects = subjects_of(config["model"], source, config["seed"])
    for subject in subjects:
        subject.model.grid(source.image_size)
        subject.model.to(device)
    loader = ImageData(source, config["batch_size"], config["seed"], config["workers"]).val_dataloader()
    evaluation = evaluate(subjects, loader, device, config["shown"])
    result: dict[str, Any] = {"state": "done", "metrics": evaluation.values, "cards": evaluation.cards}
    result |= {"skipped": plain(evaluation.skipped), "unreadable": evaluation.unreadable, "data": composition.choices["data"]}
    weights = ModelFolder(config["model"]).weights_digest()
    result |= {"model": {"folder": config["model"], "weights": weights}}
    folder = _output(config, source.fingerprint(), weights)
    if len(evaluation.images):
        save_picture(comparison(evaluation.images, evaluation.reconstructions), folder / "pictures.png")
    write_text(folder / "result.json", json.dumps(result, indent=2, allow_nan=False) + "\n")
    show(result)
    log.info("result %s, picture %s", folder / "result.json", folder / "pictures.png")
    return 0


def _check(config: dict[str, Any]) -> None:
    """What can be judged without torch."""
    check_setting(config, "device", choices=("auto", "cpu", "cuda"))
    for key, minimum in {"batch_size": 1, "shown": 1, "workers": 0}.items():
        check_setting(config, key, minimum=minimum)
    if config["output"]:
        check_output(Path(config["output"]), is_file=False)
    check_images(config["data"])
    check_data(config["data"])


def _output(config: dict[str, Any], fingerprint: str, weights: str | None) -> Path:
    """A folder of its own for every state of a model and every data."""
    model = Path(config["model"])
    name = hashlib.sha256(json.dumps([fingerprint, config["seed"], weights]).encode()).hexdigest()[:12]
    if config["output"]:
        return Path(config["output"])
    inside = (model / CONFIG).is_file()
    return (model / "evaluations" if inside else Path("runs", "evaluations", *model.resolve().parts[-2:])) / name


if __name__ == "__main__":
    main("evaluate", run, "Judge a tokenizer on any pictures.")
