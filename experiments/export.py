"""Write a trained tokenizer or generator as two plain files: `python -m experiments.export run=runs/demo/0123456789ab`."""

import logging
from pathlib import Path
from typing import Any

from experiments.config.checks import check_setting
from experiments.config.compose import Composition, main
from experiments.config.errors import ConfigError
from experiments.runs.folder import RunFolder

log = logging.getLogger("experiments.export")  # __name__ is __main__ here


def run(composition: Composition) -> int:
    """Export."""
    config = composition.config
    check_setting(config, "weights", choices=("ema", "raw"))
    folder = RunFolder(Path(config["run"]))
    if folder.state == "absent":
        raise ConfigError(f"run={folder.path}: expected a run folder such as runs/gsq/0123456789ab; change `run`")
    trained, known = folder.config, folder.described
    part = "generator" if "generator" in trained["task"] else "tokenizer"
    from experiments.runs.models import load_generator, load_tokenizer

    model: Any = (load_generator if part == "generator" else load_tokenizer)(folder.path, config["weights"])[0]
    weights = config["weights"] if trained["ema_decay"] or part == "tokenizer" else "raw"  # a generator need not keep averages
    about = {"image_size": trained["image_size"], "run": folder.path.name, "weights": weights}
    about |= {key: known[key] for key in ("tokens", "classes", "tokenizer") if key in known}
    output = Path(config["output"]) if config["output"] else folder.path / "export"
    model.save_pretrained(output, about)
    log.info("wrote %s; `%s.from_pretrained(%r)` loads it", output, type(model).__name__, str(output))
    return 0


if __name__ == "__main__":
    main("export", run, "Write a trained tokenizer or generator as model.safetensors and config.json.")
