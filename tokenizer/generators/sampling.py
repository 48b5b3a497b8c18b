"""From logits to choices: guidance, temperature, top-k, top-p, and a random stream of its own for every sample.

A uniform number per (seed, sample number, token, sub-token) and the inverse of the cumulative distribution make a sample
independent of the batch that it is drawn in; the choice is computed in float64.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenizer.generators.settings import Guidance, Sampling

__all__ = ["Guidance", "Sampling", "choose", "guided", "probabilities", "token_uniforms", "uniforms"]

STREAMS = {"tokens": 0, "labels": 1}
"""Random streams of a sample, by what they decide."""


def uniforms(seed: int, number: int, count: int, stream: str = "tokens") -> NDArray[np.float64]:
    """The first `count` numbers, float64 in [0, 1), of a random stream of sample `number`; more begin with the same.

    Args:
        seed: of all samples.
        number: of the sample, at least 0.
        count: how many.
        stream: what they decide, a key of `STREAMS`.
    """
    # Raw bits of a counter-based generator stay the same in all versions of numpy.
    key, counter = np.array([seed, number], dtype=np.uint64), np.array([0, 0, 0, STREAMS[stream]], dtype=np.uint64)
    bits = np.random.Philox(key=key, counter=counter).random_raw(count)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def token_uniforms(seed: int, numbers: Sequence[int], num_tokens: int, sub_tokens: int) -> Tensor:
    """(B, N, S) float64 in [0, 1) for the choices of the samples with these B numbers."""
    rows = [uniforms(seed, number, num_tokens * sub_tokens).reshape(num_tokens, sub_tokens) for number in numbers]
    return torch.from_numpy(np.stack(rows))


def guided(conditional: Tensor, unconditional: Tensor, scale: Tensor) -> Tensor:
    """Guided logits in float64; where the scale is 1 exactly the conditional ones.

    Args:
        conditional: (B, n, K).
        unconditional: (B, n, K).
        scale: (n, 1), s of each token.
    """
    conditional, unconditional = conditional.double(), unconditional.double()
    return torch.where(scale == 1, conditional, unconditional + scale * (conditional - unconditional))


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """(..., K) logits to float64 weights of the same shape: a softmax up to a factor, exactly 0 for what the filters drop."""
    logits = logits.double()
    # The largest is taken off first: a tiny temperature then gives zeros and no infinities.
    logits = (logits - logits.amax(-1, keepdim=True)) / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        last = logits.topk(sampling.top_k).values[..., -1:]
        logits = logits.masked_fill(logits < last, -math.inf)
    weights = logits.exp()
    return weights if sampling.top_p == 1 else _most_likely(weights, sampling.top_p)


def _most_likely(weights: Tensor, share: float) -> Tensor:
    """Weights without those that `share` of the whole is reached without."""
    ordered = weights.sort(-1, descending=True).values
    sums = ordered.cumsum(-1)
    needed = sums - ordered < share * sums[..., -1:]  # what lies before an entry is not enough
    last = ordered.masked_fill(~needed, math.inf).amin(-1, keepdim=True)
    return weights.masked_fill(weights < last, 0.0)


def choose(weights: Tensor, uniform: Tensor) -> Tensor:
    """The entry at which the cumulative weight passes `uniform` of the whole; never one of weight 0.

    Args:
        weights: (..., K) float64, not negative; at least one of each row is positive.
        uniform: (...) float64 in [0, 1].

    Returns:
        (...) int64 in [0, K).
    """
    cumulative = weights.cumsum(-1).masked_fill(weights == 0, 0.0)
    whole = cumulative.amax(-1, keepdim=True)
    # A product that rounds up to the whole would lie behind the last entry.
    aim = torch.minimum(uniform[..., None] * whole, torch.nextafter(whole, torch.zeros_like(whole)))
    return (cumulative > aim).to(torch.uint8).argmax(-1)
