"""One way to judge tokenizers: while training, after it, and by `python -m experiments.evaluate`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.data.transforms import normalize
from experiments.metrics.tokenizer import TokenizerMetrics
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import ImageBatch


@dataclass(frozen=True)
class Subject:
    """A tokenizer to judge, the metrics that judge it, and the prefix of its log keys."""

    prefix: str
    model: ImageTokenizer
    metrics: TokenizerMetrics


@dataclass(frozen=True)
class Evaluation:
    """Results by log key, their cards, what was left out and why, and some pictures with the first subject's reconstructions."""

    values: dict[str, float]
    cards: dict[str, dict[str, Any]]
    skipped: dict[str, str]
    unreadable: list[str]
    images: Tensor
    reconstructions: Tensor


@torch.no_grad()
def evaluate(subjects: list[Subject], batches: Iterable[ImageBatch], device: torch.device, shown: int = 8) -> Evaluation:
    """Run all subjects over the same pictures.

    Args:
        subjects: what is judged; each is in eval mode meanwhile.
        batches: uint8 images.
        device: where the models are.
        shown: how many pictures to keep for the eye, spread over the set.
    """
    were_training = [subject.model.training for subject in subjects]
    images: list[Tensor] = []
    reconstructions: list[Tensor] = []
    unreadable: list[str] = []
    for subject in subjects:
        subject.model.eval()
        subject.metrics.reset()
    for batch in batches:
        pixels = normalize(batch.images.to(device))
        unreadable += batch.left_out
        images.append(pixels[:shown].cpu())
        outputs = [subject.model(pixels) for subject in subjects]
        for subject, output in zip(subjects, outputs, strict=True):
            subject.metrics.update(pixels, output)
        reconstructions.append(outputs[0].decoder.reconstruction[:shown].cpu())
    for subject, training in zip(subjects, were_training, strict=True):
        subject.model.train(training)
    results = {subject.prefix: subject.metrics.compute() for subject in subjects}
    joined = torch.cat(images)
    chosen = torch.linspace(0, len(joined) - 1, min(shown, len(joined))).round().long()
    return Evaluation(
        values={f"{prefix}/{name}": value for prefix, result in results.items() for name, value in result.values.items()},
        cards={f"{prefix}/{name}": card for prefix, result in results.items() for name, card in result.cards.items()},
        skipped={name: why for result in results.values() for name, why in result.skipped.items()},
        unreadable=unreadable,
        images=joined[chosen],
        reconstructions=torch.cat(reconstructions)[chosen],
    )
