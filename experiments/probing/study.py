"""One probe of several tokenizers, stage by stage: tokens, generator, samples, linear probes. Stored results are not computed again.

A tokenizer whose stage fails has the numbers of the others; the probe continues with the next tokenizer.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from experiments.config.compose import Composition, compose
from experiments.config.errors import TesseraError
from experiments.evaluation.guidance import Trial
from experiments.evaluation.results import Results, joined, skipped_of
from experiments.probing import measures
from experiments.probing.cache import ResultCache, renamed
from experiments.probing.candidates import Candidate, TokenizerLocation, load_candidate, training_overrides
from experiments.probing.samples import Sampler
from experiments.probing.tokens import token_cache, views_of
from experiments.runs.build import build
from experiments.runs.folder import RunFolder
from experiments.runs.models import digest_of, load_generator
from experiments.runs.processes import run_training
from experiments.training.checks import check, run_name
from experiments.training.preparation import check_sizes, find_folder
from tokenizer.files import sha256, short_hash
from tokenizer.interfaces import Generator
from tokenizer.weights import MissingWeightsError

log = logging.getLogger(__name__)

Value = TypeVar("Value")
LIKELIHOOD = {"val/nll": "probe/nll", "val/bits_per_pixel": "probe/bits_per_pixel"}


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


class Study:
    """The stages of a probe, over all its tokenizers."""

    def __init__(self, config: Mapping[str, Any], protocol: str, trainer: str, device: torch.device, extra: list[str]) -> None:
        """
        Args:
            config: resolved configuration of the probe.
            protocol: chosen file of that group.
            trainer: chosen file of that group, for the generators.
            device: device of everything but the trainings.
            extra: overrides of every training.
        """
        self.config, self.trainer, self.device, self.extra = config, trainer, device, extra
        self.folder = Path(config["runs_folder"]) / "probes"
        self.cache = ResultCache(self.folder / "results")
        settings = {key: config[key] for key in ("training", "crops", "passes", "flip", "shares", "samples", "guidance", "linear")}
        settings["precision"] = config["trainer"]["precision"]
        self.protocol = f"{protocol} {short_hash(settings)[:6]}"
        self.subject = f"generator of the protocol {self.protocol}"

    def prepare(self, locations: list[TokenizerLocation]) -> list[tuple[Candidate, Composition, Path]]:
        """Load everything, tokenize, and check the trainings, before the first of them starts.

        Raises:
            ConfigError: a tokenizer that cannot be probed, or a setting of the training that is wrong.
        """
        prepared = []
        for candidate in [load_candidate(place) for place in locations]:
            cache = token_cache(candidate, self.config, self.folder / "tokens", self.device)
            composition = compose("train", [*self.extra, *training_overrides(candidate, cache, self.config, self.trainer)])
            check(composition.config)
            check_sizes(composition.config, build(composition.config["data"]))
            prepared.append((candidate, composition, cache))
        return prepared

    def name(self, prepared: list[tuple[Candidate, Composition, Path]]) -> str:
        """Twelve hexadecimal digits of the tokenizers, their data, the protocol and what else decides a report."""
        parts = sorted([candidate.digest, candidate.source.fingerprint()] for candidate, _, _ in prepared)
        reference = self.config["reference"] and sha256(Path(self.config["reference"]))
        return short_hash([self.protocol, self.config["seed"], reference, parts])

    def probe(self, candidate: Candidate, composition: Composition, cache: Path) -> ProbeResult:
        """All stages of one tokenizer."""
        tokens = candidate.tokens
        result = ProbeResult(candidate.location, f"{tokens.num_tokens} x {tokens.groups} of {tokens.codebook_size}")
        identity = {"tokenizer": candidate.digest, "data": candidate.source.fingerprint(), "seed": self.config["seed"]}
        result.add(lambda: self.cache.get("reconstruction", identity, lambda: measures.reconstruction(candidate, self.config, self.device)))
        result.add(lambda: self._tokenizer_probe(candidate, identity, cache))
        run = result.attempt(lambda: self._train(candidate, composition))
        generator = result.attempt(lambda: load_generator(run.path)[0]) if run else None
        if run and generator:
            result.add(lambda: self._likelihood(run))
            self._generator_stages(result, candidate, generator.to(self.device), cache)
        candidate.model.to("cpu")  # frees the device for the next one
        return result

    def _tokenizer_probe(self, candidate: Candidate, identity: Mapping[str, Any], cache: Path) -> Results:
        inputs = {**identity, "cache": cache.stem, "linear": self.config["linear"]}
        views = views_of(candidate, self.config)
        results = self.cache.get(
            "linear_of_tokenizer", inputs, lambda: measures.linear_of_tokenizer(candidate, views, self.config, self.device)
        )
        return renamed(results, {"acc1": "probe/tokenizer_acc1"})

    def _likelihood(self, run: RunFolder) -> Results:
        """Numbers of its own validation, with cards that name the protocol."""
        result = run.result
        likelihood = renamed(Results(result["metrics"], result["cards"], skipped_of(result)), LIKELIHOOD)
        cards = {name: {**card, "subject": self.subject} for name, card in likelihood.cards.items()}
        return Results(likelihood.values, cards, likelihood.skipped)

    def _generator_stages(self, result: ProbeResult, candidate: Candidate, generator: Generator, cache: Path) -> None:
        """Numbers of a trained generator, in eval mode."""
        digest = digest_of(generator)
        inputs = {"generator": digest, "cache": cache.stem, "linear": self.config["linear"], "seed": self.config["seed"]}

        def accuracy() -> Results:
            return measures.linear_of_generator(candidate, generator, cache, self.subject, self.config, self.device)

        stage = {**inputs, "subject": self.subject}
        result.add(lambda: renamed(self.cache.get("linear_of_generator", stage, accuracy), {"acc1": "probe/acc1"}))
        result.add(lambda: self._samples(result, Sampler(candidate, generator, digest, self.subject, self.config, self.device, self.cache)))

    def _train(self, candidate: Candidate, composition: Composition) -> RunFolder:
        """The finished run of a generator."""
        config = composition.config
        folder, _ = find_folder(config, build(config["data"]), run_name(composition.choices))
        if folder.state != "done":
            output = self.folder / "logs" / f"{folder.path.name}.log"
            log.info("%s: training its generator in %s, log %s", candidate.location.name, folder.path, output)
            run_training(composition.overrides, output)
        if folder.state != "done":
            raise TesseraError(f"{folder.path} is {folder.state} after its training; expected done")
        return folder

    def _samples(self, result: ProbeResult, sampler: Sampler) -> Results:
        """Numbers of the samples at the best guidance, and its scale."""
        results, search = sampler.best()
        if search is not None:
            result.trials = search.trials
            card = measures.card(
                sampler.candidate, "guidance", self.config["samples"], self.subject, self.config["seed"], sampler.guidance_description
            )
            results = joined([results, Results({"guidance": search.best.scale}, {"guidance": card.to_dict()})])
        return renamed(results, {name: f"probe/{name}" for name in [*results.values, *results.skipped]})
