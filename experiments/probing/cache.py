"""What was computed once, by everything that decides it: a killed probe goes on, and a second one computes nothing."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.evaluation.results import Results, computable, plain, skipped_of
from experiments.runs.folder import write_atomic
from experiments.tokens.cache import short_hash

log = logging.getLogger(__name__)

VERSION = 2
"""Of the files and of what is computed; an older file is computed again."""


class KeptResults:
    """Results in JSON files, `<stage>/<hash of its inputs>.json`, each with the inputs themselves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, stage: str, inputs: Mapping[str, Any], compute: Callable[[], Results]) -> Results:
        """The results of a stage: from its file, or computed and written.

        What was left out for want of weights that lie on this machine now is computed again.

        Args:
            stage: its name.
            inputs: plain containers with everything that decides the numbers: digests of models and data, and settings.
            compute: computes them.
        """
        file = self.folder / stage / f"{short_hash({'version': VERSION, **inputs})}.json"
        if file.is_file():
            kept = json.loads(file.read_text())
            if not computable(kept):
                return Results(kept["values"], kept["cards"], skipped_of(kept))
        results = compute()
        kept = {"inputs": dict(inputs), "values": results.values, "cards": results.cards, "skipped": plain(results.skipped)}
        write_atomic(file, json.dumps(kept, indent=2, allow_nan=False) + "\n")
        return results


def renamed(results: Results, names: Mapping[str, str]) -> Results:
    """Only the results in `names`, under their new names."""
    return Results(
        {new: results.values[old] for old, new in names.items() if old in results.values},
        {new: results.cards[old] for old, new in names.items() if old in results.cards},
        {new: results.skipped[old] for old, new in names.items() if old in results.skipped},
    )
