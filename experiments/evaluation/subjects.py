"""Subjects of an evaluation: tokenizers with the metrics that are computed of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.data.source import ImageSource
from experiments.evaluation.cards import describe_losses
from experiments.evaluation.metrics.tokenizer import TokenizerMetrics
from experiments.runs.folder import CONFIG, RunFolder
from experiments.runs.model_folder import ModelFolder
from experiments.runs.models import load_tokenizer
from tokenizer.image_tokenizer import ImageTokenizer


@dataclass(frozen=True)
class Subject:
    """A tokenizer under evaluation, its metrics, and the prefix of its log keys."""

    prefix: str
    model: ImageTokenizer
    metrics: TokenizerMetrics


def make_subject(
    prefix: str,
    model: ImageTokenizer,
    source: ImageSource,
    seed: int,
    weights: Literal["ema", "raw"],
    losses: str | None,
    same_images_as: TokenizerMetrics | None = None,
) -> Subject:
    """A tokenizer with the metrics that judge it on the evaluation pictures of `source`; `losses` is for the cards."""
    metrics = TokenizerMetrics(
        quantizer=model.quantizer,
        downsample=model.encoder.downsample,
        image_size=source.image_size,
        subject=weights,
        seed=seed,
        transform=source.transform,
        reference=source.reference,
        losses=losses,
        same_images_as=same_images_as,
    )
    return Subject(prefix, model, metrics)


def subjects_of(path: str | Path, source: ImageSource, seed: int) -> list[Subject]:
    """What is to be judged at `path`: the averaged and the trained weights of a run folder, or the weights of an export."""
    model = load_tokenizer(path, "ema")[0]
    is_run = (Path(path) / CONFIG).is_file()
    losses = describe_losses(RunFolder(Path(path)).config["task"]) if is_run else None
    average = make_subject("val", model, source, seed, ModelFolder(path).weights or "ema", losses)
    if not is_run:
        return [average]
    return [average, make_subject("val_raw", load_tokenizer(path, "raw")[0], source, seed, "raw", losses, same_images_as=average.metrics)]
