"""Numbers of a tokenizer by the protocol of a probe, stored as an evaluation of it. Imports no torch."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from experiments.config.errors import TesseraError
from experiments.config.parsing import read_mapping
from experiments.evaluation.guidance import Trial
from experiments.evaluation.results import Results, joined, plain, skipped_of
from experiments.probing.candidates import TokenizerLocation
from tokenizer.files import write_text
from tokenizer.weights import MissingWeightsError

log = logging.getLogger(__name__)

Value = TypeVar("Value")


@dataclass
class ProbeResult:
    """A tokenizer with its numbers.

    Attributes:
        location: its folder and data.
        tokens: description of number, groups and codes.
        results: numbers by log key.
        trials: trials of the guidance search.
        failed: reason of the first stage that failed, empty if none did.
    """

    location: TokenizerLocation
    tokens: str
    results: Results = field(default_factory=Results)
    trials: list[Trial] = field(default_factory=list)
    failed: str = ""

    def attempt(self, work: Callable[[], Value]) -> Value | None:
        """The value of `work`; None if it fails, with the reason in `failed`."""
        try:
            return work()
        except Exception as error:
            is_ours = isinstance(error, TesseraError | MissingWeightsError)
            reason = str(error) if is_ours else f"{type(error).__name__}: {error}"
            self.failed = self.failed or reason
            log.warning("%s failed: %s", self.location.name, reason, exc_info=not is_ours)
            return None

    def add(self, work: Callable[[], Results]) -> None:
        """Add the numbers of `work`, if it does not fail."""
        self.results = joined([self.results, self.attempt(work) or Results()])

    def write(self, file: Path, protocol: str, seconds: float, model: Mapping[str, str]) -> None:
        """Write `result.json`.

        Args:
            protocol: name and digest of the protocol, for the cards too.
            seconds: duration of all stages.
            model: folder and weights of the tokenizer.
        """
        cards = {key: {**card, "protocol": protocol} if key.startswith("probe/") else card for key, card in self.results.cards.items()}
        content = {
            "state": "failed" if self.failed else "done",
            "metrics": self.results.values,
            "cards": cards,
            "skipped": plain(self.results.skipped),
            "error": self.failed,
            "protocol": protocol,
            "tokens": self.tokens,
            "guidance_trials": [asdict(trial) for trial in self.trials],
            "seconds": seconds,
            "model": dict(model),
        }
        write_text(file, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_result(file: Path, location: TokenizerLocation) -> ProbeResult:
    """The numbers in a file of `ProbeResult.write`."""
    content = read_mapping(file)
    results = Results(content["metrics"], content["cards"], skipped_of(content))
    trials = [Trial(**trial) for trial in content["guidance_trials"]]
    return ProbeResult(location, content["tokens"], results, trials, content["error"])
