"""Train one model: `python -m experiments.train quantizer=gsq groups=16`, or `task=generator data.file=TOKENS`."""

from experiments.config.compose import Composition, main
from experiments.training.checks import check, run_name, with_recorded


def run(composition: Composition) -> int:
    """Train, resume, or report a finished run."""
    composition = with_recorded(composition)
    check(composition.config)
    from experiments.training.loop import train

    return train(composition.config, composition.overrides, run_name(composition.choices))


if __name__ == "__main__":
    main("train", run, "Train one model: a tokenizer, or with task=generator a generator.")
