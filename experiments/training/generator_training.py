"""The training of a generator: it finds its tokenizer, its likelihood is judged, and samples are shown."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from experiments.data.loading import ImageData
from experiments.evaluation.likelihood import Candidate, likelihoods, results
from experiments.evaluation.reconstruction import Evaluation
from experiments.evaluation.samples import generate_images, picture_of_samples
from experiments.runs import build
from experiments.runs.folder import is_first_process
from experiments.runs.model_folder import TokenizerGoneError, described
from experiments.tokens.cached import CachedTokens
from experiments.tokens.online import OnlineTokens
from experiments.training.base_training import Training
from experiments.training.generator_task import GeneratorTask
from tokenizer.generators.sampling import Sampling
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import TokenSpec

log = logging.getLogger(__name__)


class GeneratorTraining(Training):
    """See `Training`. The tokenizer is needed to tokenize online and to decode samples, not to learn from a cache."""

    idle_parameters = False

    def __init__(self, config: Mapping[str, Any], source: CachedTokens | OnlineTokens) -> None:
        """Train with `config`, resolved, on `source`, a cache or pictures that are tokenized online."""
        self.config = config
        self.source = source
        self.online = not isinstance(source, CachedTokens)

    @cached_property
    def tokens(self) -> TokenSpec:
        """What the data's pictures are as tokens."""
        if isinstance(self.source, CachedTokens):
            return self.source.tokens
        return self.encoder.tokens(self.source.image_size, len(self.source.classes or []))

    def check_sizes(self) -> None:
        """The generator is one of the data's tokens."""
        with torch.device("meta"):
            generator = build.build(self.config["task"]["generator"])
        for name, found in vars(generator.tokens).items():
            expected = getattr(self.tokens, name)
            if found != expected:
                raise ValueError(f"tokens.{name}={found}: this data has {expected}; change `data`, or leave `tokens.{name}` out")

    def contents(self) -> dict[str, str | None]:
        """The tokens, and the tokenizer that made them."""
        return {"data": self.source.fingerprint(), "tokenizer": self.recorded["digest"]}

    @cached_property
    def recorded(self) -> dict[str, Any]:
        """folder, digest and weights of the tokenizer that the data was made with, or is made with."""
        if isinstance(self.source, CachedTokens):
            return dict(self.source.header.about["tokenizer"])
        return {"folder": self.source.tokenizer, "digest": build.digest_of(self.encoder), "weights": self.source.weights}

    @cached_property
    def encoder(self) -> ImageTokenizer:
        """The tokenizer of pictures that are tokenized online."""
        assert isinstance(self.source, OnlineTokens)
        return build.load_tokenizer(self.source.tokenizer, self.source.weights)[0]

    @cached_property
    def tokenizer(self) -> ImageTokenizer | None:
        """The tokenizer that decodes samples; None where there are none, or where it is gone, which is no reason not to train."""
        override = self.config["tokenizer"]
        if self.online and override is None:
            return self.encoder
        if override is None and not self.config["samples_shown"]:
            return None
        try:
            return build.recorded_tokenizer(self.recorded, override, "this data")
        except TokenizerGoneError as error:
            log.warning("no pictures of samples: %s", error)
            return None

    def prepare(self, task: GeneratorTask) -> None:
        """The tokenizer is the one that the data was made with."""
        if self.online:
            task.encode_with(self.encoder)
        if self.config["compile"]:
            task.generator.compile_blocks()
        _ = self.tokenizer  # refused now, not at the first validation
        start = self.config["init_from"]
        spoken = described(start).get("tokenizer", {}).get("digest") if start and Path(start).is_dir() else None
        if spoken not in (None, self.recorded["digest"]):
            log.warning("init_from=%s: its tokens are those of the tokenizer %s, these of %s", start, spoken, self.recorded["digest"])

    def described(self, task: GeneratorTask) -> dict[str, Any]:
        """Tokens, names of the classes, and the tokenizer that decodes them."""
        tokenizer = {**self.recorded, "folder": self.config["tokenizer"] or self.recorded["folder"]}
        return {"tokens": asdict(self.tokens), "classes": self.source.classes, "tokenizer": tokenizer}

    def summarize(self, task: GeneratorTask) -> None:
        """Parameters and tokens."""
        count = sum(p.numel() for p in task.generator.parameters())
        tokens = self.tokens
        log.info("parameters: generator %.3f M", count / 1e6)
        log.info("%d tokens of %d x %d codes, %d classes", tokens.num_tokens, tokens.groups, tokens.codebook_size, tokens.num_classes)

    def judge(self, task: GeneratorTask, data: ImageData) -> Callable[[], Evaluation]:
        """Likelihood of the evaluation tokens under each weights, and samples of the averaged ones."""
        trained = Candidate("val_raw" if task.average else "val", task.generator, "raw")
        candidates = [Candidate("val", task.averaged, "ema"), trained] if task.average else [trained]  # type: ignore[arg-type]

        def judge() -> Evaluation:
            measured = likelihoods(candidates, data.val_dataloader(), task.as_tokens, task.device)
            values, cards = results(candidates, measured, self.source, self.recorded["digest"], self.config["seed"])
            return Evaluation(values, cards, {}, measured.unreadable, self.samples(task), torch.empty(0), None)

        return judge

    @cached_property
    def labels(self) -> list[int]:
        """Of the samples that are shown: spread over all classes, in their order."""
        count, classes = self.config["samples_shown"], self.tokens.num_classes
        return [place * classes // count for place in range(count)]

    def samples(self, task: GeneratorTask) -> Tensor:
        """(samples_shown, 3, H, W) in [0, 1] on the first process; every time the same sample numbers, so that progress shows."""
        if self.tokenizer is None or not self.labels or not is_first_process():
            return torch.empty(0)
        made = generate_images(
            task.averaged,  # type: ignore[arg-type]
            self.tokenizer.to(task.device),
            torch.tensor(self.labels),
            torch.arange(len(self.labels)),
            Sampling(seed=self.config["seed"]),
            self.tokens.layout,
            task.device,
            batch_size=len(self.labels),
        )
        return torch.cat([images.cpu() for _, images in made])

    def draw(self, evaluation: Evaluation) -> Image.Image:
        """Samples with their classes."""
        names = self.source.classes or [str(label) for label in range(self.tokens.num_classes)]
        return picture_of_samples(evaluation.images, self.labels, names, by_class=False)
