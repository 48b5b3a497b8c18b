"""Likelihood of the tokens of evaluation images under generators: nats per token, and bits per pixel."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Literal

import torch

from experiments.data.source import NO_LABEL, DataSource
from experiments.evaluation import metrics
from experiments.evaluation.metrics.metric_set import MetricSet
from experiments.evaluation.reconstruction import Evaluation, collect, evaluating
from experiments.evaluation.subjects import Subject
from tokenizer.interfaces import Generator, TokenBatch, TokenSpec


class LikelihoodMetrics(MetricSet):
    """Running metrics of a generator on the evaluation images of `source`; see `likelihood_subject`."""

    def __init__(self, num_tokens: int, source: DataSource, seed: int, weights: Literal["ema", "raw"], tokenizer: str) -> None:
        self.num_tokens, self.tokenizer = num_tokens, tokenizer
        fields = {"subject": weights, "seed": seed, "transform": source.transform, "reference": source.reference}
        super().__init__(metrics.LIKELIHOOD_METRICS, source.image_size, fields)


def likelihood_subject(
    prefix: str, model: Generator, source: DataSource, seed: int, weights: Literal["ema", "raw"], tokenizer: str
) -> Subject[Generator, MetricSet]:
    """A generator with its metrics on the evaluation data of `source`; `tokenizer` is a digest, for the cards."""
    return Subject(prefix, model, LikelihoodMetrics(model.tokens.num_tokens, source, seed, weights, tokenizer))


@torch.no_grad()
def evaluate_likelihood(
    subjects: list[Subject[Generator, MetricSet]], batches: Iterable[Any], as_tokens: Callable[[Any], TokenBatch], device: torch.device
) -> Evaluation:
    """Run all subjects over the same tokens, given their true classes; sums are in float64.

    Args:
        subjects: on the device, each in eval mode meanwhile, without dropout.
        batches: of tokens, or of images that `as_tokens` tokenizes.

    Raises:
        DataError: there is no image.
    """
    unreadable: list[str] = []
    with evaluating(subjects):
        for batch in batches:
            unreadable += getattr(batch, "left_out", [])
            is_empty = len(batch.labels) == 0
            tokens = blank_tokens(subjects[0].model.tokens, device) if is_empty else as_tokens(batch.to(device))
            for subject in subjects:
                nats = subject.model.nll(tokens)
                if not is_empty:
                    subject.metrics.add(nats)
    return collect(subjects, unreadable)


def blank_tokens(spec: TokenSpec, device: torch.device) -> TokenBatch:
    """One image of index 0, for a rank without images: a sharded model computes on all ranks together.

    Merged tokens have one cell each but the last, which has the remaining ones.
    """
    layout, cells = spec.layout, spec.grid[0] * spec.grid[1]
    if spec.kind == "merged":
        assignment = torch.arange(cells).clamp(max=spec.num_tokens - 1)[None]
        layout = replace(layout, assignment=assignment, token_sizes=assignment[0].bincount()[None])
    indices = torch.zeros(1, spec.num_tokens, spec.groups, dtype=torch.int64)
    return TokenBatch(indices, torch.tensor([NO_LABEL]), layout).to(device)
