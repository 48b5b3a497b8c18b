"""Samples of a probe's generator at the best guidance scale, by feature networks and by the data's classifier, if it has one.

The scale is searched by the first of `SCORES` that can be computed. Every trial is cached.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.config.errors import TesseraError
from experiments.evaluation.guidance import Search, search_guidance, usual_start
from experiments.evaluation.metrics.samples import without_networks
from experiments.evaluation.results import Results, Skipped, joined
from experiments.evaluation.sample_evaluators import SampleEvaluators
from experiments.evaluation.samples import describe_classes, draw_labels, generate_images
from experiments.probing.cache import ResultCache
from experiments.probing.candidates import Candidate
from tokenizer.files import sha256
from tokenizer.generators.settings import Guidance, Sampling
from tokenizer.interfaces import Generator

log = logging.getLogger(__name__)

SCORES = ("gfid", "frechet_digits", "frechet_lite0")
NO_SCORE = Skipped("the data has no evaluator of its own and no feature network can be used: no number to choose a guidance scale by")


@dataclass
class Sampler:
    """Draws and evaluates samples of one generator.

    Attributes:
        candidate: tokenizer that decodes.
        generator: on the device, in eval mode.
        digest: digest of its weights.
        subject: its weights, ema or raw, for the cards.
        config: configuration of the probe.
        device: device of the generator.
        cache: stores every trial.
    """

    candidate: Candidate
    generator: Generator
    digest: str
    subject: str
    config: Mapping[str, Any]
    device: torch.device
    cache: ResultCache

    def __post_init__(self) -> None:
        config, reference = self.config, self.config["reference"]
        self.evaluators = SampleEvaluators(
            self.candidate.source,
            None if reference is None else Path(reference),
            self.candidate.model.to(self.device),
            self.device,
            config["batch_size"],
            config["workers"],
            Path(config["runs_folder"]) / "references",
        )

    def best(self) -> tuple[Results, Search | None]:
        """The numbers at the best guidance scale, and the search; None if there is no score to search by."""
        absent = self.evaluators.absent
        if self.evaluators.classifier is None and len(absent) == len(self.evaluators.networks):
            return joined([without_networks(absent), Results(skipped={"guidance": NO_SCORE})]), None
        settings, samples = self.config["guidance"], self.config["samples"]
        parameters = sum(parameter.numel() for parameter in self.generator.parameters())
        start = usual_start(settings["schedule"], parameters) if settings["start"] is None else settings["start"]
        if self.generator.tokens.num_classes == 0:  # nothing to guide by
            only = self.score(1.0, samples)
            log.info("%s: no classes, no guidance; scores %.4g", self.candidate.location.name, only)
            return self.tried(1.0, samples), None
        search = search_guidance(self.score, start, settings["samples"], samples, settings["step"], settings["floor"], settings["ceiling"])
        return self.tried(search.best.scale, search.best.n), search

    def score(self, scale: float, n: int) -> float:
        """The score that the search minimizes."""
        results = self.tried(scale, n)
        name = next((name for name in SCORES if name in results.values), None)
        if name is None:
            raise TesseraError(f"{n} samples give none of {', '.join(SCORES)}: {results.skipped}")
        log.info("%s: guidance %g, %d samples: %s %.4g", self.candidate.location.name, scale, n, name, results.values[name])
        return results.values[name]

    def tried(self, scale: float, n: int) -> Results:
        """All numbers of `n` samples at a guidance scale."""
        settings, seed = self.config["guidance"], self.config["seed"]
        guidance = Guidance(scale, settings["schedule"], settings["unguided"])
        inputs: dict[str, Any] = {"generator": self.digest, "tokenizer": self.candidate.digest, "data": self.candidate.source.fingerprint()}
        inputs |= {"scale": scale, "schedule": guidance.schedule, "unguided": guidance.start, "n": n, "seed": seed}
        reference = self.config["reference"] and sha256(Path(self.config["reference"]))
        inputs |= {"subject": self.subject, "guidance": self.guidance_description, "reference": reference}
        return self.cache.get("samples", inputs, lambda: self._draw(Sampling(guidance=guidance, seed=seed), n))

    @property
    def guidance_description(self) -> str:
        """For the cards: how the scale was chosen, not its value, since every tokenizer has its best one."""
        settings = self.config["guidance"]
        if self.generator.tokens.num_classes == 0:
            return "none, there are no classes"
        step = f", from {settings['unguided']:g} of the tokens on" if settings["schedule"] == "step" else ""
        by = f"{settings['samples']} samples a try, step {settings['step']:g}, floor {settings['floor']:g}, ceiling {settings['ceiling']:g}"
        return f"{settings['schedule']}{step}, best scale by hill-climbing, {by}"

    def _draw(self, sampling: Sampling, n: int) -> Results:
        tokens = self.candidate.tokens
        labels, numbers = draw_labels(n, None, tokens.num_classes, sampling.seed), torch.arange(n)
        batch_size = self.config["batch_size"]
        classes = describe_classes(n, None, tokens.num_classes)
        image_size = self.candidate.source.image_size
        metrics = self.evaluators.metrics(image_size, self.subject, sampling.seed, self.guidance_description, classes)
        batches = generate_images(
            self.generator, self.evaluators.tokenizer, labels, numbers, sampling, tokens.layout, self.device, batch_size
        )
        for (_, images), batch_labels in zip(batches, torch.split(labels, batch_size), strict=True):
            metrics.update(images, batch_labels)
        return metrics.compute()
