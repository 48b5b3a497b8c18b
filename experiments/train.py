"""Train one model: `python -m experiments.train quantizer=gsq groups=16`, or `task=generator data.file=TOKENS`."""

from typing import Any

from experiments.config.checks import check_setting
from experiments.config.compose import Composition, main
from experiments.data.files import check_data
from experiments.training.schedules import in_updates

MINIMA = {"seed": 0, "workers": 0, "log_every": 1, "validate_every": 1, "checkpoint_every": 1, "keep_checkpoints": 1}


def run(composition: Composition) -> int:
    """Train, or go on, or report a finished run. What can be judged without torch is judged first."""
    check(composition.config)
    from experiments.training.loop import train

    return train(composition.config, composition.overrides, run_name(composition.choices))


def check(config: dict[str, Any]) -> None:
    """What can be judged of a composed configuration without torch.

    Raises:
        ValueError: a setting out of its range, or data that is not there.
    """
    for key, minimum in MINIMA.items():
        check_setting(config, key, minimum=minimum)
    if "discriminator_start" in config:
        in_updates(config["discriminator_start"], config["updates"], "discriminator_start")
    if "samples_shown" in config:
        check_setting(config, "samples_shown", minimum=0)
    check_data(config["data"])


def run_name(choices: dict[str, Any]) -> str:
    """The folder that a run's folder lies in: its experiment, or its quantizer or generator."""
    return str(choices.get("experiment") or choices.get("quantizer") or choices["generator"])


if __name__ == "__main__":
    main("train", run, "Train one model: a tokenizer, or with task=generator a generator.")
