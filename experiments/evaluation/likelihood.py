"""Likelihood of the tokens of evaluation images under generators: nats per token, and bits per pixel."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from experiments.data.source import NO_LABEL, DataSource
from experiments.evaluation import metrics
from experiments.evaluation.metrics.metric import RunningSums
from experiments.evaluation.metrics.metric_set import MetricSet
from experiments.evaluation.reconstruction import Evaluation, collect, evaluating
from experiments.evaluation.results import Results
from experiments.evaluation.subjects import Subject
from tokenizer.interfaces import Generator, TokenBatch, TokenSpec


class LikelihoodMetrics(MetricSet):
    """Running metrics of a generator on the evaluation images of `source`; see `likelihood_subject`."""

    def __init__(self, tokens: TokenSpec, source: DataSource, seed: int, weights: Literal["ema", "raw"], tokenizer: str) -> None:
        self.num_tokens, self.num_classes, self.tokenizer = tokens.num_tokens, tokens.num_classes, tokenizer
        fields = {"subject": weights, "seed": seed, "transform": source.transform, "reference": source.reference}
        super().__init__(metrics.LIKELIHOOD_METRICS, source.image_size, fields)
        self.labeled = RunningSums({"images": torch.zeros((), dtype=torch.float64)})
        self.parts.append(self.labeled)

    def add_labels(self, labels: Tensor) -> None:
        """Count the labels (B,) of a batch that was added."""
        self.labeled.add("images", int((labels != NO_LABEL).sum()))

    def compute(self) -> Results:
        """See `MetricSet`; the cards have the number of labels if the generator has classes and some image has none."""
        for part in (self.count, self.labeled):
            part.join()
        images, labeled = (round(float(part.joined["images"])) for part in (self.count, self.labeled))
        self.card_fields["labeled"] = labeled if self.num_classes and labeled < images else None
        return super().compute()


LikelihoodSubject = Subject[Generator, LikelihoodMetrics]


def likelihood_subject(
    prefix: str, model: Generator, source: DataSource, seed: int, weights: Literal["ema", "raw"], tokenizer: str
) -> LikelihoodSubject:
    """A generator with its metrics on the evaluation data of `source`; `tokenizer` is a digest, for the cards."""
    return Subject(prefix, model, LikelihoodMetrics(model.tokens, source, seed, weights, tokenizer))


@torch.no_grad()
def evaluate_likelihood(
    subjects: list[LikelihoodSubject],
    batches: Iterable[Any],
    as_tokens: Callable[[Any], TokenBatch],
    device: torch.device,
) -> Evaluation:
    """Run all subjects over the same tokens, given their true classes; sums are in float64.

    Args:
        subjects: on the device, each in eval mode meanwhile, without dropout.
        batches: of tokens, or of images that `as_tokens` tokenizes.

    Raises:
        DataError: there is no image.
    """
    unreadable: list[str] = []
    with evaluating(subjects, device):
        for batch in batches:
            unreadable += getattr(batch, "left_out", [])
            is_empty = len(batch.labels) == 0
            tokens = blank_tokens(subjects[0].model.tokens, device) if is_empty else as_tokens(batch.to(device))
            for subject in subjects:
                nats = subject.model.nll(tokens)
                if not is_empty:
                    subject.metrics.add(nats)
                    subject.metrics.add_labels(batch.labels)
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
