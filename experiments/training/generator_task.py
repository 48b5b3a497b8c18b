"""Training a generator: the likelihood of the indices of images, given their classes.

Papers: Sun et al. 2024, arXiv:2406.06525; Xiong et al. 2025, arXiv:2504.08736, supplement (optimizer, schedule, no averaged weights).
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from experiments.config.errors import ConfigError
from experiments.data.loading import ImageData
from experiments.data.source import NO_LABEL
from experiments.data.transforms import normalize
from experiments.evaluation.likelihood import evaluate_likelihood, likelihood_subject
from experiments.evaluation.reconstruction import Evaluation
from experiments.evaluation.samples import SamplePreview
from experiments.runs.model_folder import ModelFolder
from experiments.runs.models import TokenizerGoneError, recorded_tokenizer
from experiments.tokens.cached import CachedTokens
from experiments.tokens.online import OnlineTokens
from experiments.training.clock import ClockedTask
from experiments.training.ema import ExponentialMovingAverage
from experiments.training.finite import FiniteCheck
from experiments.training.optimizers import AdamW
from experiments.training.step_log import means_over_ranks
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import Generator, ImageBatch, TokenBatch
from tokenizer.layers.frozen import Frozen
from tokenizer.layers.precision import full_precision
from tokenizer.layers.trunk import recompute_activations

log = logging.getLogger(__name__)


class GeneratorTask(ClockedTask):
    """A generator and, if `ema_decay` is set, its averaged copy.

    A batch has indices, or images that a frozen tokenizer encodes first: see `encode_with`.
    """

    encoder: Frozen | None
    num_tokens: int | None
    source: CachedTokens | OnlineTokens
    config: Mapping[str, Any]
    preview: SamplePreview | None
    _parts: list[Tensor]

    def __init__(
        self,
        generator: Generator,
        optimizer: AdamW,
        updates: int,
        accumulate: int,
        ema_decay: float,
        seed: int,
    ) -> None:
        """
        Args:
            generator: generator on the meta device; it gets its weights in `configure_model`.
            optimizer: optimizer of the generator.
            updates: updates of the whole run.
            accumulate: number of parts of a batch.
            ema_decay: decay of the averaged weights, 0 for none.
            seed: seed of initial weights and of all noise inside a step.

        Raises:
            ConfigError: a length that is neither a fraction nor a number of updates.
        """
        average = ExponentialMovingAverage(generator, ema_decay) if ema_decay else None
        super().__init__([optimizer], average, updates, accumulate, seed)
        self.generator = generator
        self.finite = FiniteCheck(("nll",))
        self.encoder = None
        self._parts = []

    def encode_with(self, tokenizer: ImageTokenizer, num_tokens: int | None = None) -> None:
        """Encode batches of images with a trained tokenizer; it is not trained, averaged or saved."""
        self.encoder, self.num_tokens = Frozen(tokenizer), num_tokens

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimizer."""
        return self.optimizer_settings[0].build(self.generator)

    @property
    def trained(self) -> Generator:
        """The generator."""
        return self.generator

    def training_step(self, batch: TokenBatch | ImageBatch, batch_idx: int) -> None:
        """The gradient of the mean nats of a token; every `accumulate` batches one step."""
        self.seed_noise()
        self.finite.watch(self.updates + 1, batch.keys)
        nll = self.generator.nll(self.as_tokens(batch)).sum(-1).mean()
        self.manual_backward(nll / self.accumulate)
        self.batches += 1
        self._parts.append(nll.detach())
        if not self.step_complete:
            return
        mean, self._parts = torch.stack(self._parts).mean(), []
        norms, _ = self.step({"nll": mean})
        if self.logs_at(self.updates):
            self.finite.verify()
            self.report_step(means_over_ranks({"train/loss/nll": mean, "train/gradient_norm/generator": norms[0]}), len(batch.keys))

    @torch.no_grad()
    def as_tokens(self, batch: TokenBatch | ImageBatch) -> TokenBatch:
        """A batch of indices; images are encoded here, in fp32 for every precision of the trainer."""
        if isinstance(batch, TokenBatch):
            return batch
        if self.encoder is None:
            raise ConfigError("data", reason="it has images and no tokenizer", expected="data=indices or data=online")
        with full_precision(self.device):
            images = normalize(batch.images.to(self.device))
            output, layout = self.encoder.network.encode(images, self.num_tokens)  # type: ignore[operator]
        return TokenBatch(output.indices, batch.labels, layout, batch.keys)

    def prepare(self, config: Mapping[str, Any], source: CachedTokens | OnlineTokens) -> None:
        """Set the tokenizer that encodes the data, and the one that decodes samples."""
        if isinstance(source, OnlineTokens):
            self.encode_with(source.encoder, source.num_tokens)
        if config["compile"]:
            self.generator.blocks.compile_each()
        recompute_activations(self.generator, config["recompute"])
        self.source, self.config = source, config
        tokenizer = self._decoding_tokenizer()
        self.preview = SamplePreview(tokenizer, source, config["samples_shown"], config["seed"]) if tokenizer else None
        start = config["init_from"]
        recorded = ModelFolder(start).trained_with.get("tokenizer", {}) if start and Path(start).is_dir() else {}
        digest, expected = recorded.get("digest"), source.made_with["digest"]
        if digest not in (None, expected):
            log.warning("init_from=%s: it was trained on tokens of the tokenizer %s, this data has those of %s", start, digest, expected)

    def _decoding_tokenizer(self) -> ImageTokenizer | None:
        """The tokenizer that decodes samples; None if there are no samples, or if it does not exist any more: training does not need it."""
        override = self.config["tokenizer"]
        if isinstance(self.source, OnlineTokens) and override is None:
            return self.source.encoder
        if override is None and not self.config["samples_shown"]:
            return None
        try:
            return recorded_tokenizer(self.source.made_with, override, "this data")
        except TokenizerGoneError as error:
            log.warning("no images of samples: %s", error)
            return None

    def describe(self) -> dict[str, Any]:
        """Tokens, names of the classes, and the tokenizer that decodes them."""
        tokenizer = {**self.source.made_with, "folder": self.config["tokenizer"] or self.source.made_with["folder"]}
        return {"tokens": asdict(self.source.tokens), "classes": self.source.classes, "tokenizer": tokenizer}

    def summarize(self) -> None:
        """Parameters and tokens."""
        tokens = self.source.tokens
        log.info("parameters: generator %.3f M", sum(p.numel() for p in self.generator.parameters()) / 1e6)
        log.info("%d tokens of %d x %d codes, %d classes", tokens.num_tokens, tokens.groups, tokens.codebook_size, tokens.num_classes)
        if isinstance(self.source, CachedTokens) and tokens.num_classes:  # images in folders are counted when they are listed
            for split in (self.source.train, self.source.val):
                unlabeled = int((split.labels == NO_LABEL).sum())
                if unlabeled:
                    log.warning("%d of %d %s images have no label: they count as images of no class", unlabeled, len(split), split.split)

    def evaluate(self, data: ImageData) -> Evaluation:
        """Likelihood of the evaluation tokens under both weights, and samples of the averaged ones."""
        seed, digest, averaged = self.config["seed"], self.source.made_with["digest"], cast(Generator, self.averaged)
        trained = likelihood_subject("val_raw" if self.average else "val", self.generator, self.source, seed, "raw", digest)
        average = [likelihood_subject("val", averaged, self.source, seed, "ema", digest)] if self.average else []
        evaluation = evaluate_likelihood([*average, trained], data.val_dataloader(), self.as_tokens, self.device)
        samples = torch.empty(0) if self.preview is None else self.preview.generate(averaged, self.device)
        return replace(evaluation, images=samples)

    def figure(self, evaluation: Evaluation) -> Image.Image:
        """Samples with their classes."""
        assert self.preview is not None
        return self.preview.figure(evaluation.images)
