"""From logits to choices: guidance, temperature, top-k, top-p, and a random stream of its own for every sample.

A random number per (seed, sample number, token, sub-token) seeds the noise of one choice, so that a sample does not depend on the
batch that it is drawn in. The choice is the largest sum of logit and Gumbel noise (Maddison et al. 2014, arXiv:1411.0030), in float64.
The inverse of the cumulative distribution would need one number only, but rounding moves each of its K steps: logits that differ by
1e-4, as those of another batch size may, change one choice in a hundred of 4096 codes; here none of two thousand.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenizer.generators.settings import Guidance, Sampling

__all__ = ["Guidance", "Sampling", "choose", "filtered", "guided", "noise", "token_seeds", "uniforms"]

STREAMS = {"tokens": 0, "labels": 1}
"""Random streams of a sample, by what they decide."""
GOLDEN = 0x9E3779B97F4A7C15 - 2**64
MIXING = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
"""Constants of SplitMix64, as int64."""


def uniforms(seed: int, number: int, count: int, stream: str) -> NDArray[np.float64]:
    """The first `count` numbers, float64 in [0, 1), of a random stream of sample `number`; more begin with the same.

    Args:
        seed: of all samples.
        number: of the sample, at least 0.
        count: how many.
        stream: what they decide, a key of `STREAMS`.
    """
    return (_bits(seed, number, count, stream) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _bits(seed: int, number: int, count: int, stream: str) -> NDArray[np.uint64]:
    # Raw bits of a counter-based generator stay the same in all versions of numpy.
    key, counter = np.array([seed, number], dtype=np.uint64), np.array([0, 0, 0, STREAMS[stream]], dtype=np.uint64)
    bits: NDArray[np.uint64] = np.random.Philox(key=key, counter=counter).random_raw(count)
    return bits


def token_seeds(seed: int, numbers: Sequence[int], num_tokens: int, sub_tokens: int) -> Tensor:
    """(B, N, S) int64, what the choices of the samples with these B numbers are seeded with."""
    rows = [_bits(seed, number, num_tokens * sub_tokens, "tokens").reshape(num_tokens, sub_tokens) for number in numbers]
    return torch.from_numpy(np.stack(rows).view(np.int64))


def guided(conditional: Tensor, unconditional: Tensor, scale: Tensor) -> Tensor:
    """Guided logits in float64; where the scale is 1 exactly the conditional ones.

    Args:
        conditional: (B, n, K).
        unconditional: (B, n, K).
        scale: (n, 1), s of each token.
    """
    conditional, unconditional = conditional.double(), unconditional.double()
    return torch.where(scale == 1, conditional, unconditional + scale * (conditional - unconditional))


def filtered(logits: Tensor, sampling: Sampling) -> Tensor:
    """(..., K) logits to float64 ones over the temperature, minus infinity for what the filters drop."""
    logits = logits.double()
    # The largest is taken off first: a tiny temperature then gives minus infinity at worst.
    logits = (logits - logits.amax(-1, keepdim=True)) / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        last = logits.topk(sampling.top_k).values[..., -1:]
        logits = logits.masked_fill(logits < last, -math.inf)
    return logits if sampling.top_p == 1 else _most_likely(logits, sampling.top_p)


def _most_likely(logits: Tensor, share: float) -> Tensor:
    """Logits without those that `share` of the probability is reached without."""
    ordered = logits.sort(-1, descending=True).values
    weights = ordered.exp()
    sums = weights.cumsum(-1)
    needed = sums - weights < share * sums[..., -1:]  # what lies before an entry is not enough
    last = ordered.masked_fill(~needed, math.inf).amin(-1, keepdim=True)
    return logits.masked_fill(logits < last, -math.inf)


def noise(seeds: Tensor, count: int) -> Tensor:
    """(...) int64 seeds to (..., count) float64 in (0, 1): the first numbers of SplitMix64 (Steele et al. 2014), with 52 bits each.

    Made where it is used, as K numbers for each choice are too many to be sent to a device.
    """
    state = seeds[..., None] + GOLDEN * torch.arange(1, count + 1, device=seeds.device)  # int64 wraps around
    for shift, factor in MIXING:
        state = (state ^ _shifted(state, shift)) * factor
    return (_shifted(state ^ _shifted(state, 31), 12).double() + 0.5) * 2.0**-52


def _shifted(bits: Tensor, places: int) -> Tensor:
    """To the right, with zeros coming in: int64 alone would repeat its sign."""
    return (bits >> places) & ((1 << (64 - places)) - 1)


def choose(logits: Tensor, seeds: Tensor) -> Tensor:
    """An entry of each row with the probabilities of softmax; never one of minus infinity.

    Args:
        logits: (..., K) float64; at least one of each row is finite.
        seeds: (...) int64, of the noise.

    Returns:
        (...) int64 in [0, K).
    """
    return (logits - noise(seeds, logits.shape[-1]).log().neg().log()).argmax(-1)
