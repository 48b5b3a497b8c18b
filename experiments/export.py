"""Write a trained tokenizer as two plain files: `python -m experiments.export run=runs/demo/0123456789ab`."""

import logging
from pathlib import Path

from experiments.compose import Composition, main
from experiments.run_folder import RunFolder

log = logging.getLogger(__name__)


def run(composition: Composition) -> int:
    """Export."""
    from experiments.build import load_tokenizer

    config = composition.config
    folder = RunFolder(Path(config["run"]))
    trained = folder.config
    model, description = load_tokenizer(folder.path, config["weights"])
    output = Path(config["output"]) if config["output"] else folder.path / "export"
    about = {"image_size": trained["image_size"], "run": folder.path.name, "weights": config["weights"]}
    model.save_pretrained(output, description, about)
    log.info("wrote %s; `ImageTokenizer.from_pretrained(%r)` loads it", output, str(output))
    return 0


if __name__ == "__main__":
    main("export", run, "Write a trained tokenizer as model.safetensors and config.json.")
