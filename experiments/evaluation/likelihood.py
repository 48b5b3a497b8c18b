"""How likely a generator finds the tokens of pictures that it never saw: nats a token, and bits a pixel."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from experiments.data.source import DataSource
from experiments.evaluation.cards import Card
from experiments.evaluation.reconstruction import over_ranks
from tokenizer.interfaces import Generator, TokenBatch
from tokenizer.layers.distributed import sum_over_ranks


@dataclass(frozen=True)
class LikelihoodSubject:
    """A generator to judge, the prefix of its log keys, and which weights it has."""

    prefix: str
    model: Generator
    weights: Literal["ema", "raw"]


@dataclass(frozen=True)
class Likelihoods:
    """nats of an image under each candidate, the mean over `n` images; keys of the pictures that could not be read."""

    nats: list[float]
    n: int
    unreadable: list[str]


@torch.no_grad()
def likelihoods(
    candidates: list[LikelihoodSubject], batches: Iterable[Any], as_tokens: Callable[[Any], TokenBatch], device: torch.device
) -> Likelihoods:
    """Run all candidates over the same tokens, given their true classes; sums are in float64.

    Args:
        candidates: each is in eval mode meanwhile, so that nothing is dropped.
        batches: of tokens, or of what `as_tokens` makes tokens of.
        as_tokens: called with each batch.
        device: where the models are.

    Raises:
        ValueError: there is no image.
    """
    were_training = [candidate.model.training for candidate in candidates]
    for candidate in candidates:
        candidate.model.eval()
    sums = torch.zeros(len(candidates) + 1, dtype=torch.float64, device=device)
    unreadable: list[str] = []
    for batch in batches:
        unreadable += getattr(batch, "left_out", [])
        if len(batch.labels) == 0:
            continue
        tokens = as_tokens(batch.to(device))
        nats = [candidate.model.nll(tokens).sum(dtype=torch.float64) for candidate in candidates]
        sums += torch.stack([*nats, torch.tensor(float(len(tokens.labels)), dtype=torch.float64, device=device)])
    for candidate, training in zip(candidates, were_training, strict=True):
        candidate.model.train(training)
    *totals, n = sum_over_ranks(sums).tolist()
    unreadable = over_ranks(unreadable)
    if not n:
        raise ValueError(f"this data has no evaluation picture that could be read; left out: {', '.join(unreadable[:10])}; change `data`")
    return Likelihoods([total / n for total in totals], int(n), unreadable)


def results(
    candidates: list[LikelihoodSubject], measured: Likelihoods, source: DataSource, tokenizer: str, seed: int
) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Values and cards by log key: `nll` a token, summed over its sub-tokens, and `bits_per_pixel`.

    Args:
        candidates: as they were judged.
        measured: what was found.
        source: the evaluation data.
        tokenizer: its digest; numbers a token are comparable for one tokenizer only.
        seed: of the run.
    """
    values: dict[str, float] = {}
    cards: dict[str, dict[str, Any]] = {}
    pixels = source.image_size**2
    for candidate, nats in zip(candidates, measured.nats, strict=True):
        found = {"nll": nats / candidate.model.tokens.num_tokens, "bits_per_pixel": nats / math.log(2) / pixels}
        for name, value in found.items():
            by_token = name == "nll"
            card = Card(
                metric=name,
                backend="tessera",
                network="tokenizer" if by_token else None,
                weights=tokenizer if by_token else None,
                resize=None,
                transform=source.transform,
                image_size=source.image_size,
                reference=source.reference,
                n=measured.n,
                aggregate="mean over tokens" if by_token else "mean over images",
                dtype="float32",
                subject=candidate.weights,
                guidance=None,
                losses=None,
                seed=seed,
            )
            values[f"{candidate.prefix}/{name}"] = value
            cards[f"{candidate.prefix}/{name}"] = card.to_dict()
    return values, cards
