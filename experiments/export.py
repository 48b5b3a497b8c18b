"""Write a trained tokenizer as two plain files: `python -m experiments.export run=runs/demo/0123456789ab`."""

import logging
from pathlib import Path

from experiments.compose import Composition, ConfigError, main
from experiments.config_checks import check_setting
from experiments.run_folder import RunFolder

log = logging.getLogger("experiments.export")  # __name__ is __main__ here


def run(composition: Composition) -> int:
    """Export."""
    config = composition.config
    check_setting(config, "weights", choices=("ema", "raw"))
    folder = RunFolder(Path(config["run"]))
    if folder.state == "absent":
        raise ConfigError(f"run={folder.path}: expected a run folder such as runs/gsq/0123456789ab; change `run`")
    trained = folder.config
    from experiments.build import load_tokenizer

    model, description = load_tokenizer(folder.path, config["weights"])
    output = Path(config["output"]) if config["output"] else folder.path / "export"
    about = {"image_size": trained["image_size"], "run": folder.path.name, "weights": config["weights"]}
    model.save_pretrained(output, description, about)
    log.info("wrote %s; `ImageTokenizer.from_pretrained(%r)` loads it", output, str(output))
    return 0


if __name__ == "__main__":
    main("export", run, "Write a trained tokenizer as model.safetensors and config.json.")
