"""Write a trained tokenizer or generator as two plain files: `python -m experiments.export run=runs/demo/0123456789ab`."""

import logging
from pathlib import Path
from typing import Any

from experiments.config.checks import check_output
from experiments.config.compose import Composition, main
from experiments.config.errors import ConfigError
from experiments.config.idle import report_idle
from experiments.config.settings import ExportSettings
from experiments.runs.folder import EXAMPLE, RunFolder
from experiments.runs.kinds import as_reason
from experiments.runs.model_folder import ModelFolder

log = logging.getLogger("experiments.export")  # __name__ is __main__ here


def run(composition: Composition) -> int:
    """Export."""
    settings: ExportSettings = composition.settings
    folder = ModelFolder(settings.run, "run")
    if not folder.is_run:
        raise ConfigError("run", settings.run, reason=as_reason(settings.run), expected=f"a run folder such as {EXAMPLE}")
    folder.require(folder.part)
    output = Path(settings.output or folder.path / "export")
    check_output(output, is_file=False)
    from experiments.runs.models import load_generator, load_tokenizer

    load: Any = load_generator if folder.part == "generator" else load_tokenizer
    model = load(folder.path, settings.weights, "run")[0]
    idle = folder.idle_weights(settings.weights)
    report_idle(composition.overrides, idle)
    weights = "raw" if idle else settings.weights
    with RunFolder(output).lock():
        model.save_pretrained(output, {**folder.trained_with, "weights": weights})
    log.info("wrote %s; `%s.from_pretrained(%r)` loads it", output, type(model).__name__, str(output))
    return 0


if __name__ == "__main__":
    main("export", run, "Write a trained tokenizer or generator as model.safetensors and config.json.")
