"""List, check and fetch the weights of other people's networks: `python -m experiments.weights list|check|fetch NAME`."""

from typing import TYPE_CHECKING

from experiments.config.compose import Composition, main

if TYPE_CHECKING:
    from experiments.config.settings import WeightsSettings


def run(composition: Composition) -> int:
    """Run one of the three actions.

    Returns:
        0, or 1 if a file on this machine is wrong or one could not be fetched.
    """
    from experiments.runs.downloads import check_files, fetch_files, list_files
    from tokenizer.weights import FILES

    settings: WeightsSettings = composition.settings
    if settings.action == "fetch":
        return fetch_files([file for file in FILES.values() if settings.name in (file.name, "all")])
    return check_files() if settings.action == "check" else list_files()


if __name__ == "__main__":
    main("weights", run, "List, check and fetch the weights of other people's networks.")
