"""One probe of several tokenizers, stage by stage: tokens, generator, samples, linear probes. What is there is not made again.

A tokenizer whose stage fails is left with what it has; the others go on.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from experiments.config.compose import Composition, compose
from experiments.config.errors import TesseraError
from experiments.evaluation.guidance import Try
from experiments.evaluation.results import Results, joined, skipped_of
from experiments.probing import measures
from experiments.probing.cache import KeptResults, renamed
from experiments.probing.candidates import Entrant, Place, load_entrant, training_words
from experiments.probing.samples import Sampler
from experiments.probing.tokens import token_cache, views_of
from experiments.runs.build import build
from experiments.runs.folder import RunFolder
from experiments.runs.models import digest_of, load_generator
from experiments.runs.processes import TrainingFailedError, run_training
from experiments.tokens.cache import short_hash
from experiments.training.checks import check, run_name
from experiments.training.preparation import check_sizes, find_folder
from tokenizer.interfaces import Generator
from tokenizer.weights import MissingWeightsError, sha256

log = logging.getLogger(__name__)

Made = TypeVar("Made")
LIKELIHOOD = {"val/nll": "probe/nll", "val/bits_per_pixel": "probe/bits_per_pixel"}


@dataclass
class Probed:
    """A tokenizer with what was found of it.

    Attributes:
        place: where it lies.
        tokens: their number, groups and codes, for people.
        results: its numbers by log key.
        tries: of the guidance search.
        failed: why something is missing, empty if nothing is.
    """

    place: Place
    tokens: str
    results: Results = field(default_factory=Results)
    tries: list[Try] = field(default_factory=list)
    failed: str = ""

    def attempt(self, work: Callable[[], Made]) -> Made | None:
        """What `work` makes; None if it fails, with the reason in `failed`."""
        try:
            return work()
        except Exception as error:
            known = isinstance(error, TesseraError | MissingWeightsError)
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            self.failed = self.failed or reason
            log.warning("%s failed: %s", self.place.name, reason, exc_info=not known)
            return None

    def add(self, work: Callable[[], Results]) -> None:
        """Add the numbers that `work` finds, if it does not fail."""
        self.results = joined([self.results, self.attempt(work) or Results()])


class Study:
    """The stages of a probe, over all its tokenizers."""

    def __init__(self, config: Mapping[str, Any], protocol: str, trainer: str, device: torch.device) -> None:
        """
        Args:
            config: resolved, of the verb.
            protocol: the chosen file of that group; with `trainer` likewise.
            trainer: of the generators.
            device: of everything but the training.
        """
        self.config, self.trainer, self.device = config, trainer, device
        self.folder = Path(config["runs_folder"]) / "probes"
        self.kept = KeptResults(self.folder / "kept")
        settings = {key: config[key] for key in ("training", "crops", "passes", "flip", "shares", "samples", "guidance", "linear")}
        settings["precision"] = config["trainer"]["precision"]
        self.protocol = f"{protocol} {short_hash(settings)[:6]}"
        self.subject = f"generator of the protocol {self.protocol}"

    def prepare(self, places: list[Place]) -> list[tuple[Entrant, Composition, Path]]:
        """Load everything, tokenize, and judge the trainings, before the first of them starts.

        Raises:
            ConfigError: a tokenizer that cannot be probed, or a setting of the training that is wrong.
        """
        prepared = []
        for entrant in [load_entrant(place) for place in places]:
            cache = token_cache(entrant, self.config, self.folder / "tokens", self.device)
            composition = compose("train", training_words(entrant, cache, self.config, self.trainer))
            check(composition.config)
            check_sizes(composition.config, build(composition.config["data"]))
            prepared.append((entrant, composition, cache))
        return prepared

    def name(self, prepared: list[tuple[Entrant, Composition, Path]]) -> str:
        """Twelve hexadecimal digits of the tokenizers, their data, the protocol and what else decides a report."""
        parts = sorted([entrant.digest, entrant.source.fingerprint()] for entrant, _, _ in prepared)
        reference = self.config["reference"] and sha256(Path(self.config["reference"]))
        return short_hash([self.protocol, self.config["seed"], reference, parts])

    def probe(self, entrant: Entrant, composition: Composition, cache: Path) -> Probed:
        """All stages of one tokenizer."""
        tokens = entrant.tokens
        probed = Probed(entrant.place, f"{tokens.num_tokens} x {tokens.groups} of {tokens.codebook_size}")
        identity = {"tokenizer": entrant.digest, "data": entrant.source.fingerprint(), "seed": self.config["seed"]}
        probed.add(lambda: self.kept.get("reconstruction", identity, lambda: measures.reconstruction(entrant, self.config, self.device)))
        probed.add(lambda: self._tokenizer_probe(entrant, identity, cache))
        run = probed.attempt(lambda: self._train(entrant, composition))
        generator = probed.attempt(lambda: load_generator(run.path)[0]) if run else None
        if run and generator:
            probed.add(lambda: self._likelihood(run))
            self._generator_stages(probed, entrant, generator.to(self.device), cache)
        entrant.model.to("cpu")  # the next one needs the device
        return probed

    def _tokenizer_probe(self, entrant: Entrant, identity: Mapping[str, Any], cache: Path) -> Results:
        inputs = {**identity, "cache": cache.stem, "linear": self.config["linear"]}
        views = views_of(entrant, self.config)
        found = self.kept.get("linear_of_tokenizer", inputs, lambda: measures.linear_of_tokenizer(entrant, views, self.config, self.device))
        return renamed(found, {"acc1": "probe/tokenizer_acc1"})

    def _likelihood(self, run: RunFolder) -> Results:
        """What its own validation found, the cards naming the protocol."""
        result = run.result
        found = renamed(Results(result["metrics"], result["cards"], skipped_of(result)), LIKELIHOOD)
        cards = {name: {**card, "subject": self.subject} for name, card in found.cards.items()}
        return Results(found.values, cards, found.skipped)

    def _generator_stages(self, probed: Probed, entrant: Entrant, generator: Generator, cache: Path) -> None:
        """Everything that is measured of a trained generator, in eval mode."""
        digest = digest_of(generator)
        inputs = {"generator": digest, "cache": cache.stem, "linear": self.config["linear"], "seed": self.config["seed"]}

        def accuracy() -> Results:
            return measures.linear_of_generator(entrant, generator, cache, self.subject, self.config, self.device)

        stage = {**inputs, "subject": self.subject}
        probed.add(lambda: renamed(self.kept.get("linear_of_generator", stage, accuracy), {"acc1": "probe/acc1"}))
        probed.add(lambda: self._samples(probed, Sampler(entrant, generator, digest, self.subject, self.config, self.device, self.kept)))

    def _train(self, entrant: Entrant, composition: Composition) -> RunFolder:
        """The finished run of a generator."""
        config = composition.config
        folder, _ = find_folder(config, build(config["data"]), run_name(composition.choices))
        if folder.state != "done":
            said = self.folder / "logs" / f"{folder.path.name}.log"
            log.info("%s: training its generator in %s, log %s", entrant.place.name, folder.path, said)
            run_training(composition.overrides, said)
        if folder.state != "done":
            raise TrainingFailedError(f"{folder.path} is {folder.state} after its training; expected done")
        return folder

    def _samples(self, probed: Probed, sampler: Sampler) -> Results:
        """Numbers of the samples at the best guidance, and which that is."""
        results, search = sampler.best()
        if search is not None:
            probed.tries = search.tries
            card = measures.card(
                sampler.entrant, "guidance", self.config["samples"], self.subject, self.config["seed"], sampler.said_of_guidance
            )
            results = joined([results, Results({"guidance": search.best.scale}, {"guidance": card.to_dict()})])
        return renamed(results, {name: f"probe/{name}" for name in [*results.values, *results.skipped]})
