"""Train one tokenizer: `python -m experiments.train quantizer=gsq groups=16`."""

from typing import Any

from experiments.compose import Composition, main


def run(composition: Composition) -> int:
    """Train, or go on, or report a finished run."""
    from experiments.training import train

    return train(composition.config, composition.overrides, run_name(composition.choices))


def run_name(choices: dict[str, Any]) -> str:
    """The folder that a run's folder lies in: its experiment, or its quantizer."""
    return str(choices.get("experiment") or choices["quantizer"])


if __name__ == "__main__":
    main("train", run, "Train one tokenizer.")
