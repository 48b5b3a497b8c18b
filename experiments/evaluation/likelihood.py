"""Likelihood of the tokens of evaluation images under generators: nats per token, and bits per pixel."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from experiments.data.source import DataSource
from experiments.evaluation import metrics
from experiments.evaluation.metrics.metric_set import Context, MetricSet
from experiments.evaluation.reconstruction import Evaluation, collect, evaluating
from experiments.evaluation.subjects import Subject
from tokenizer.interfaces import Generator, TokenBatch


class LikelihoodContext(Context):
    """A generator and the tokens that it is evaluated on.

    Args:
        num_tokens: tokens of an image.
        tokenizer: digest of the tokenizer.
        image_size: side of the images in pixels.
        card_fields: see `Context`.
    """

    def __init__(self, num_tokens: int, tokenizer: str, image_size: int, card_fields: dict[str, Any]) -> None:
        super().__init__(image_size, card_fields, "evaluated")
        self.num_tokens, self.tokenizer = num_tokens, tokenizer


@dataclass(frozen=True)
class LikelihoodBatch:
    """Tokens of some images: their number, and () float64 nats of all together."""

    size: int
    nats: torch.Tensor

    @property
    def device(self) -> torch.device:
        """Of the sums."""
        return self.nats.device

    def __len__(self) -> int:
        return self.size


def likelihood_subject(
    prefix: str, model: Generator, source: DataSource, seed: int, weights: Literal["ema", "raw"], tokenizer: str
) -> Subject[Generator, MetricSet]:
    """A generator with its metrics.

    Args:
        prefix: of its log keys.
        model: the generator.
        source: the evaluation data.
        seed: run seed.
        weights: which weights it has.
        tokenizer: digest of the tokenizer.
    """
    fields = {"subject": weights, "seed": seed, "transform": source.transform, "reference": source.reference}
    context = LikelihoodContext(model.tokens.num_tokens, tokenizer, source.image_size, fields)
    return Subject(prefix, model, MetricSet(metrics.LIKELIHOOD_METRICS, context))


@torch.no_grad()
def evaluate_likelihood(
    subjects: list[Subject[Generator, MetricSet]], batches: Iterable[Any], as_tokens: Callable[[Any], TokenBatch], device: torch.device
) -> Evaluation:
    """Run all subjects over the same tokens, given their true classes; sums are in float64.

    Args:
        subjects: each is in eval mode meanwhile, without dropout.
        batches: of tokens, or of images that `as_tokens` tokenizes.
        as_tokens: called with each batch.
        device: device of the models.

    Raises:
        DataError: there is no image.
    """
    unreadable: list[str] = []
    with evaluating(subjects):
        for batch in batches:
            unreadable += getattr(batch, "left_out", [])
            if len(batch.labels) == 0:
                continue
            tokens = as_tokens(batch.to(device))
            for subject in subjects:
                subject.metrics.add(LikelihoodBatch(len(tokens.labels), subject.model.nll(tokens).sum(dtype=torch.float64)))
    return collect(subjects, unreadable)
