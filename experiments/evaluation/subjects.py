"""Subjects of an evaluation: models with their metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import nn

from experiments.config.errors import ConfigError
from experiments.data.source import ImageSource
from experiments.evaluation.cards import describe_losses
from experiments.evaluation.metrics.metric_set import MetricSet
from experiments.evaluation.metrics.tokenizer import FeatureCache, TokenizerMetrics
from experiments.runs.model_folder import ModelFolder, Weights
from experiments.runs.models import load_tokenizer
from tokenizer.image_tokenizer import ImageTokenizer

Model = TypeVar("Model", bound=nn.Module)
Metrics = TypeVar("Metrics", bound=MetricSet)


@dataclass(frozen=True)
class Subject(Generic[Model, Metrics]):
    """A model under evaluation, its metrics, and the prefix of its log keys.

    Attributes:
        num_tokens: number of tokens that a tokenizer's encoder keeps; None for the encoder's own number, and for generators.
    """

    prefix: str
    model: Model
    metrics: Metrics
    num_tokens: int | None = None


TokenizerSubject = Subject[ImageTokenizer, TokenizerMetrics]


def make_subject(
    prefix: str,
    model: ImageTokenizer,
    source: ImageSource,
    seed: int,
    weights: Weights,
    losses: str | None,
    cache: FeatureCache | None = None,
    num_tokens: int | None = None,
) -> TokenizerSubject:
    """A tokenizer with its metrics on the evaluation images of `source`.

    Args:
        prefix: prefix of its log keys.
        losses: losses that trained it, for the cards.
        cache: feature cache of another subject that is evaluated on the same images.
        num_tokens: number of tokens that the encoder keeps; None for its own number.
    """
    metrics = TokenizerMetrics(
        quantizer=model.quantizer,
        downsample=model.encoder.downsample,
        image_size=source.image_size,
        subject=weights,
        seed=seed,
        transform=source.transform,
        reference=source.reference,
        losses=losses,
        cache=cache,
        num_tokens=num_tokens,
    )
    return Subject(prefix, model, metrics, num_tokens)


def subjects_of(path: str | Path, source: ImageSource, seed: int, num_tokens: Sequence[int] = ()) -> list[TokenizerSubject]:
    """The subjects at `path`: the averaged and the trained weights of a run folder, or the weights of an export.

    Each weights are one model, and a subject for every number of tokens. The prefix of the averaged weights or an export is `val`, that
    of the trained weights `val_raw`; with several numbers of tokens `val_36`, `val_64`, `val_raw_36`, `val_raw_64`.

    Args:
        num_tokens: numbers of tokens that the encoder keeps; empty for its own number.
    """
    folder = ModelFolder(path)
    folder.require("tokenizer")
    losses = describe_losses(folder.config["task"]) if folder.is_run else None
    weights: dict[str, Weights] = {"val": "ema", "val_raw": "raw"} if folder.is_run else {"val": folder.weights or "ema"}
    subjects: list[TokenizerSubject] = []
    for prefix, kind in weights.items():
        model = load_tokenizer(path, kind, folder.key)[0]
        for count in num_tokens or (None,):
            name = f"{prefix}_{count}" if len(num_tokens) > 1 else prefix
            cache = subjects[0].metrics.cache if subjects else None
            subjects.append(make_subject(name, model, source, seed, kind, losses, cache, count))
    return subjects


@torch.no_grad()
def require_num_tokens(model: ImageTokenizer, image_size: int, num_tokens: Sequence[int], key: str) -> None:
    """Check that an encoder can keep these numbers of tokens, with a blank image.

    Raises:
        ConfigError: it cannot.
    """
    for count in num_tokens:
        image = torch.zeros(1, 3, image_size, image_size, device=next(model.parameters()).device)
        try:
            model.encoder(image, count)
        except ValueError as error:
            raise ConfigError(key, count, reason=str(error)) from error
