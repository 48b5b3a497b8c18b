"""Write a trained tokenizer or generator as two plain files: `python -m experiments.export run=runs/demo/0123456789ab`."""

import logging
from pathlib import Path
from typing import Any

from experiments.config.compose import Composition, main
from experiments.config.errors import ConfigError
from experiments.config.settings import ExportSettings
from experiments.runs.folder import EXAMPLE
from experiments.runs.model_folder import ModelFolder

log = logging.getLogger("experiments.export")  # __name__ is __main__ here


def run(composition: Composition) -> int:
    """Export."""
    settings: ExportSettings = composition.settings
    folder = ModelFolder(settings.run, "run")
    if not folder.is_run:
        raise ConfigError("run", settings.run, expected=f"a run folder such as {EXAMPLE}")
    from experiments.runs.models import load_generator, load_tokenizer

    load: Any = load_generator if folder.part == "generator" else load_tokenizer
    model = load(folder.path, settings.weights, "run")[0]
    has_average = folder.part == "tokenizer" or folder.config["ema_decay"]  # that of a generator is optional
    weights = settings.weights if has_average else "raw"
    output = Path(settings.output or folder.path / "export")
    model.save_pretrained(output, {**folder.trained_with, "weights": weights})
    log.info("wrote %s; `%s.from_pretrained(%r)` loads it", output, type(model).__name__, str(output))
    return 0


if __name__ == "__main__":
    main("export", run, "Write a trained tokenizer or generator as model.safetensors and config.json.")
