"""Subjects of an evaluation: models with their metrics."""

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from torch import nn

from experiments.data.source import ImageSource
from experiments.evaluation.cards import describe_losses
from experiments.evaluation.metrics.metric_set import MetricSet
from experiments.evaluation.metrics.tokenizer import FeatureCache, TokenizerMetrics
from experiments.runs.folder import CONFIG, RunFolder
from experiments.runs.model_folder import ModelFolder
from experiments.runs.models import load_tokenizer
from tokenizer.image_tokenizer import ImageTokenizer

Model = TypeVar("Model", bound=nn.Module)
Metrics = TypeVar("Metrics", bound=MetricSet)


@dataclass(frozen=True)
class Subject(Generic[Model, Metrics]):
    """A model under evaluation, its metrics, and the prefix of its log keys."""

    prefix: str
    model: Model
    metrics: Metrics


TokenizerSubject = Subject[ImageTokenizer, TokenizerMetrics]


def make_subject(
    prefix: str,
    model: ImageTokenizer,
    source: ImageSource,
    seed: int,
    weights: Literal["ema", "raw"],
    losses: str | None,
    cache: FeatureCache | None = None,
) -> TokenizerSubject:
    """A tokenizer with its metrics on the evaluation images of `source`.

    Args:
        prefix: of its log keys.
        losses: losses that trained it, for the cards.
        cache: of another subject that is evaluated on the same images.
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
    )
    return Subject(prefix, model, metrics)


def subjects_of(path: str | Path, source: ImageSource, seed: int) -> list[TokenizerSubject]:
    """The subjects at `path`: the averaged and the trained weights of a run folder, or the weights of an export."""
    model = load_tokenizer(path, "ema")[0]
    is_run = (Path(path) / CONFIG).is_file()
    losses = describe_losses(RunFolder(Path(path)).config["task"]) if is_run else None
    average = make_subject("val", model, source, seed, ModelFolder(path).weights or "ema", losses)
    if not is_run:
        return [average]
    return [average, make_subject("val_raw", load_tokenizer(path, "raw")[0], source, seed, "raw", losses, cache=average.metrics.cache)]
