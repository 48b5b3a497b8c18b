"""One probe of several tokenizers, stage by stage: tokens, generator, samples, linear probes. Stored results are not computed again.

A tokenizer whose stage fails has the numbers of the others; the probe continues with the next tokenizer.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from experiments.config.compose import Composition, compose
from experiments.config.errors import TesseraError
from experiments.config.overrides import for_children
from experiments.evaluation.checks import output_folder
from experiments.evaluation.protocol import protocol_id, result_folder
from experiments.evaluation.results import Results, joined, skipped_of
from experiments.probing import measures
from experiments.probing.cache import ResultCache, renamed
from experiments.probing.candidates import Candidate, TokenizerLocation
from experiments.probing.generators import training_overrides
from experiments.probing.results import ProbeResult
from experiments.probing.samples import Sampler
from experiments.probing.tokens import token_cache, views_of
from experiments.runs.build import build
from experiments.runs.folder import RESULT, RunFolder
from experiments.runs.model_folder import ModelFolder
from experiments.runs.models import digest_of, load_generator
from experiments.runs.processes import SECONDS_BETWEEN_LOOKS, TrainingFailedError, run_training
from experiments.training.checks import check, run_name
from experiments.training.preparation import check_sizes, find_folder
from tokenizer.files import sha256, short_hash
from tokenizer.interfaces import Generator

log = logging.getLogger(__name__)

LIKELIHOOD = {"val/nll": "probe/nll", "val/bits_per_pixel": "probe/bits_per_pixel"}


class Study:
    """The stages of a probe, over all its tokenizers."""

    def __init__(self, composition: Composition, device: torch.device) -> None:
        """
        Args:
            composition: configuration of the probe.
            device: device of everything but the trainings.
        """
        self.config, self.device = composition.config, device
        self.trainer, self.extra = str(composition.choices["trainer"]), for_children(composition.overrides)
        self.folder = Path(self.config["runs_folder"]) / "probes"
        self.cache = ResultCache(self.folder / "results")
        name = str(composition.choices["protocol"])
        self.protocol, self.result_folder = protocol_id(self.config, name), result_folder(self.config, name)

    def result_file(self, location: TokenizerLocation) -> Path:
        """File of a tokenizer's numbers, one of its evaluations."""
        return output_folder(None, "evaluations", ModelFolder(location.folder), self.result_folder) / RESULT

    @contextmanager
    def lock(self, candidates: list[Candidate]) -> Iterator[None]:
        """Lock the results of these tokenizers for this process.

        Raises:
            RunFolderError: another process probes one of them by this protocol.
        """
        with ExitStack() as stack:
            for candidate in candidates:
                stack.enter_context(RunFolder(self.result_file(candidate.location).parent).lock())
            yield

    def prepare(self, candidates: list[Candidate]) -> list[tuple[Candidate, Composition, Path]]:
        """Tokenize, and check the trainings, before the first of them starts.

        Raises:
            ConfigError: a setting of the training is wrong.
        """
        prepared = []
        for candidate in candidates:
            cache, tokenizer = token_cache(candidate, self.config, self.folder / "tokens", self.device), candidate.location.folder.resolve()
            overrides = training_overrides(self.config, self.trainer, str(cache), str(tokenizer))
            composition = compose("train", [*self.extra, *overrides])
            check(composition.config)
            check_sizes(composition.config, build(composition.config["data"]))
            prepared.append((candidate, composition, cache))
        return prepared

    def name(self, candidates: list[Candidate]) -> str:
        """Twelve hexadecimal digits of the tokenizers, their data, the protocol and what else decides a report."""
        parts = sorted([candidate.digest, candidate.source.fingerprint()] for candidate in candidates)
        reference = self.config["reference"] and sha256(Path(self.config["reference"]))
        return short_hash([self.protocol, self.config["seed"], reference, parts])

    def probe(self, candidate: Candidate, composition: Composition, cache: Path) -> None:
        """All stages of one tokenizer; its numbers are written."""
        tokens = candidate.tokens
        result = ProbeResult(candidate.location, f"{tokens.num_tokens} x {tokens.groups} of {tokens.codebook_size}")
        self.cache.seconds.clear()
        identity = {"tokenizer": candidate.digest, "data": candidate.source.fingerprint(), "seed": self.config["seed"]}
        result.add(lambda: self.cache.get("reconstruction", identity, lambda: measures.reconstruction(candidate, self.config, self.device)))
        result.add(lambda: self._tokenizer_probe(candidate, identity, cache))
        run = result.attempt(lambda: self._train(candidate, composition))
        generator = result.attempt(lambda: load_generator(run.path)[0]) if run else None
        if run and generator:
            result.add(lambda: self._likelihood(run))
            weights = "ema" if composition.config["ema_decay"] else "raw"
            self._generator_stages(result, candidate, generator.to(self.device), weights, cache)
        candidate.model.to("cpu")  # frees the device for the next one
        trained = run.result["metrics"]["perf/seconds"] if run else 0.0
        folder = candidate.location.folder
        model = {"folder": str(folder), "weights": ModelFolder(folder).weights_digest()}
        result.write(self.result_file(candidate.location), self.protocol, trained + sum(self.cache.seconds.values()), model)

    def _tokenizer_probe(self, candidate: Candidate, identity: Mapping[str, Any], cache: Path) -> Results:
        inputs = {**identity, "cache": cache.stem, "linear": self.config["linear"]}
        views = views_of(candidate, self.config)
        results = self.cache.get(
            "linear_of_tokenizer", inputs, lambda: measures.linear_of_tokenizer(candidate, views, self.config, self.device)
        )
        return renamed(results, {"acc1": "probe/tokenizer_acc1"})

    def _likelihood(self, run: RunFolder) -> Results:
        """Numbers of its own validation."""
        result = run.result
        return renamed(Results(result["metrics"], result["cards"], skipped_of(result)), LIKELIHOOD)

    def _generator_stages(self, result: ProbeResult, candidate: Candidate, generator: Generator, weights: str, cache: Path) -> None:
        """Numbers of a trained generator, in eval mode."""
        digest, subject = digest_of(generator), f"the generator ({weights} weights)"
        inputs = {"generator": digest, "cache": cache.stem, "linear": self.config["linear"], "seed": self.config["seed"]}

        def accuracy() -> Results:
            return measures.linear_of_generator(candidate, generator, cache, subject, self.config, self.device)

        stage = {**inputs, "subject": subject}
        result.add(lambda: renamed(self.cache.get("linear_of_generator", stage, accuracy), {"acc1": "probe/acc1"}))
        result.add(lambda: self._samples(result, Sampler(candidate, generator, digest, weights, self.config, self.device, self.cache)))

    def _train(self, candidate: Candidate, composition: Composition) -> RunFolder:
        """The finished run of a generator; one that another process trains is waited for."""
        config = composition.config
        folder, _ = find_folder(config, build(config["data"]), run_name(composition.choices))
        output = self.folder / "logs" / f"{folder.path.name}.log"
        while folder.state != "done":
            if folder.in_use:
                time.sleep(SECONDS_BETWEEN_LOOKS)
                continue
            log.info("%s: training its generator in %s, log %s", candidate.location.name, folder.path, output)
            try:
                run_training(composition.overrides, output)
            except TrainingFailedError:
                if not folder.in_use:  # else another process took the folder first
                    raise
            else:
                if folder.state != "done":
                    raise TesseraError(f"{folder.path} is {folder.state} after its training; expected done")
        return folder

    def _samples(self, result: ProbeResult, sampler: Sampler) -> Results:
        """Numbers of the samples at the best guidance, and its scale."""
        results, search = sampler.best()
        if search is not None:
            result.trials = search.trials
            card = measures.card(
                sampler.candidate, "guidance", self.config["samples"], sampler.subject, self.config["seed"], sampler.guidance_description
            )
            results = joined([results, Results({"guidance": search.best.scale}, {"guidance": card.to_dict()})])
        return renamed(results, {name: f"probe/{name}" for name in [*results.values, *results.skipped]})
