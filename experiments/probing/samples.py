"""Samples of a probe's generator at the best guidance scale, judged by Inception and by what the data offers beside it.

The scale is searched by the first of `SCORES` that can be computed. Every try is kept by itself.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.evaluation.guidance import Search, search_guidance, usual_start
from experiments.evaluation.metrics.samples import without_network
from experiments.evaluation.results import Results, Skipped, joined
from experiments.evaluation.sample_evaluators import SampleEvaluators
from experiments.evaluation.samples import draw_labels, generate_images
from experiments.probing.cache import KeptResults
from experiments.probing.candidates import Entrant
from tokenizer.generators.settings import Guidance, Sampling
from tokenizer.interfaces import Generator
from tokenizer.weights import MissingWeightsError, sha256

log = logging.getLogger(__name__)

SCORES = ("gfid", "frechet_digits")
NO_SCORE = Skipped("the data has no evaluator of its own and Inception cannot be used, so there is no number to choose a guidance scale by")


@dataclass
class Sampler:
    """Draws and judges samples of one generator.

    Attributes:
        entrant: the tokenizer that decodes.
        generator: on the device, in eval mode.
        digest: of its weights.
        subject: which generator, for the cards.
        config: of the verb.
        device: of the generator.
        kept: where every try is kept.
    """

    entrant: Entrant
    generator: Generator
    digest: str
    subject: str
    config: Mapping[str, Any]
    device: torch.device
    kept: KeptResults

    def __post_init__(self) -> None:
        config, reference = self.config, self.config["reference"]
        self.evaluators = SampleEvaluators(
            self.entrant.source,
            None if reference is None else Path(reference),
            self.entrant.model.to(self.device),
            self.device,
            config["batch_size"],
            config["workers"],
            Path(config["runs_folder"]) / "references",
        )

    def best(self) -> tuple[Results, Search | None]:
        """The numbers at the best guidance scale, and the search; None if there is nothing to search by."""
        if self.evaluators.classifier is None and isinstance(missing := self.evaluators.inception, MissingWeightsError):
            return joined([without_network(Skipped(str(missing), missing.name)), Results(skipped={"guidance": NO_SCORE})]), None
        settings, samples = self.config["guidance"], self.config["samples"]
        parameters = sum(parameter.numel() for parameter in self.generator.parameters())
        start = usual_start(settings["schedule"], parameters) if settings["start"] is None else settings["start"]
        if self.generator.tokens.num_classes == 0:  # nothing to guide by
            only = self.score(1.0, samples)
            log.info("%s: no classes, no guidance; scores %.4g", self.entrant.place.name, only)
            return self.tried(1.0, samples), None
        found = search_guidance(self.score, start, settings["samples"], samples, settings["step"], settings["floor"])
        return self.tried(found.best.scale, found.best.n), found

    def score(self, scale: float, n: int) -> float:
        """What the search makes small."""
        results = self.tried(scale, n)
        name = next((name for name in SCORES if name in results.values), None)
        if name is None:
            raise ValueError(f"{n} samples give none of {', '.join(SCORES)}: {results.skipped}")
        log.info("%s: guidance %g, %d samples: %s %.4g", self.entrant.place.name, scale, n, name, results.values[name])
        return results.values[name]

    def tried(self, scale: float, n: int) -> Results:
        """All numbers of `n` samples at a guidance scale."""
        settings, seed = self.config["guidance"], self.config["seed"]
        guidance = Guidance(scale, settings["schedule"], settings["unguided"])
        inputs: dict[str, Any] = {"generator": self.digest, "tokenizer": self.entrant.digest, "data": self.entrant.source.fingerprint()}
        inputs |= {"scale": scale, "schedule": guidance.schedule, "unguided": guidance.start, "n": n, "seed": seed}
        reference = self.config["reference"] and sha256(Path(self.config["reference"]))
        inputs |= {"subject": self.subject, "guidance": self.said_of_guidance, "reference": reference}
        return self.kept.get("samples", inputs, lambda: self._draw(Sampling(guidance=guidance, seed=seed), n))

    @property
    def said_of_guidance(self) -> str:
        """For the cards: how the scale was chosen, not which it is, since every tokenizer is shown at its best."""
        settings = self.config["guidance"]
        if self.generator.tokens.num_classes == 0:
            return "none, there are no classes"
        step = f", from {settings['unguided']:g} of the tokens on" if settings["schedule"] == "step" else ""
        by = f"{settings['samples']} samples a try, step {settings['step']:g}, floor {settings['floor']:g}"
        return f"{settings['schedule']}{step}, best scale by hill-climbing, {by}"

    def _draw(self, sampling: Sampling, n: int) -> Results:
        tokens = self.entrant.tokens
        labels, numbers = draw_labels(n, None, tokens.num_classes, sampling.seed), torch.arange(n)
        batch_size = self.config["batch_size"]
        metrics = self.evaluators.metrics(self.entrant.source.image_size, self.subject, sampling.seed, self.said_of_guidance)
        made = generate_images(self.generator, self.evaluators.tokenizer, labels, numbers, sampling, tokens.layout, self.device, batch_size)
        for (_, images), wanted in zip(made, torch.split(labels, batch_size), strict=True):
            metrics.update(images, wanted)
        return metrics.compute()
