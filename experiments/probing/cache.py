"""Results stored by everything that determines them: a killed probe resumes, and a second one computes nothing."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.config.parsing import read_mapping, write_mapping
from experiments.evaluation.results import Results, computable, plain, skipped_of
from tokenizer.files import short_hash

log = logging.getLogger(__name__)

VERSION = 4  # of the files and of the computation; results in older files are computed again


class ResultCache:
    """Results in JSON files, `<stage>/<hash of its inputs>.json`, each with the inputs themselves.

    Attributes:
        folder: of the files.
        seconds: durations of the computations of all results that were asked for, by file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[Path, float] = {}

    def get(self, stage: str, inputs: Mapping[str, Any], compute: Callable[[], Results]) -> Results:
        """The results of a stage: from its file, or computed and written.

        Metrics that were skipped because of weights that are on this machine now are computed again.

        Args:
            stage: name of the stage.
            inputs: plain containers with everything that determines the numbers: digests of models and data, and settings.
            compute: computes them.
        """
        file = self.folder / stage / f"{short_hash({'version': VERSION, **inputs})}.json"
        if file.is_file():
            cached = read_mapping(file)
            if not computable(cached):
                self.seconds[file] = cached.get("seconds", 0.0)  # older files have none
                return Results(cached["values"], cached["cards"], skipped_of(cached))
        started = time.monotonic()
        results = compute()
        self.seconds[file] = time.monotonic() - started
        cached = {"inputs": dict(inputs), "values": results.values, "cards": results.cards, "skipped": plain(results.skipped)}
        cached["seconds"] = self.seconds[file]
        write_mapping(file, cached)
        return results


def renamed(results: Results, names: Mapping[str, str]) -> Results:
    """Only the results in `names`, under their new names."""
    return Results(
        {new: results.values[old] for old, new in names.items() if old in results.values},
        {new: results.cards[old] for old, new in names.items() if old in results.cards},
        {new: results.skipped[old] for old, new in names.items() if old in results.skipped},
    )
