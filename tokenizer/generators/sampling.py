"""From logits to choices: guidance, temperature, top-k, top-p, and an independent random stream for every sample.

Each (seed, sample number, token, sub-token) has a random number that seeds the noise of one choice, so a sample does not depend on the
batch that it is drawn in. The choice is the argmax of logits plus Gumbel noise (Maddison et al. 2014, arXiv:1411.0030), in float64.
Inverting the cumulative distribution would need only one random number, but each of its K steps rounds: when logits differ by 1e-4,
as between batch sizes, it changes one choice in a hundred with 4096 codes, and the Gumbel argmax none in two thousand.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenizer.generators.settings import Guidance, Sampling

__all__ = ["Guidance", "GuidedPick", "Sampling", "choose", "filtered", "guided", "noise", "token_seeds", "uniforms"]

STREAMS = {"tokens": 0, "labels": 1}  # random streams of a sample, by use
# Constants of SplitMix64, as int64.
GOLDEN = 0x9E3779B97F4A7C15 - 2**64
MIXING = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))


class GuidedPick:
    """Sampling function of one batch. All that changes between tokens is in tensors, so it can be part of a CUDA graph.

    Args:
        sampling: filters.
        seeds: (B, N, S) int64 from `token_seeds`.
        scales: (N,) guidance scales, if rows are B conditional and B unconditional ones; None without guidance.

    Attributes:
        position: (1,) int64, number of the next token; advanced by the caller.
        all_finite: () bool, whether all logits so far were finite.
    """

    def __init__(self, sampling: Sampling, seeds: Tensor, scales: Tensor | None) -> None:
        self.sampling = sampling
        self.seeds = seeds
        self.scales = scales
        self.position = torch.zeros(1, dtype=torch.int64, device=seeds.device)
        self.all_finite = torch.ones((), dtype=torch.bool, device=seeds.device)

    def __call__(self, logits: Tensor, sub_token: int) -> Tensor:
        """(R, n, K) logits of a sub-token to choices (R, n)."""
        tokens = self.position + torch.arange(logits.shape[1], device=logits.device)
        if self.scales is not None:
            conditional, unconditional = logits.chunk(2)
            logits = guided(conditional, unconditional, self.scales.index_select(0, tokens)[:, None])
        self.all_finite.logical_and_(logits.amax(-1).isfinite().all())
        seeds = self.seeds[:, :, sub_token].index_select(1, tokens)
        choices = choose(filtered(logits, self.sampling), seeds)
        return choices if self.scales is None else torch.cat([choices, choices])

    def load_(self, other: "GuidedPick") -> None:
        """Copy the state of another batch of the same size and sampling settings in place."""
        self.seeds.copy_(other.seeds)
        self.position.copy_(other.position)
        self.all_finite.copy_(other.all_finite)


def token_seeds(seed: int, numbers: Sequence[int], num_tokens: int, sub_tokens: int) -> Tensor:
    """(B, N, S) int64 noise seeds for the choices of B samples, given their numbers."""
    rows = [_bits(seed, number, num_tokens * sub_tokens, "tokens").reshape(num_tokens, sub_tokens) for number in numbers]
    return torch.from_numpy(np.stack(rows).view(np.int64))


def uniforms(seed: int, number: int, count: int, stream: str) -> NDArray[np.float64]:
    """The first `count` numbers of a random stream, float64 in [0, 1); a larger count starts with the same numbers.

    Args:
        seed: seed of all samples.
        number: sample number, at least 0.
        count: how many numbers.
        stream: key of `STREAMS`.
    """
    return (_bits(seed, number, count, stream) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _bits(seed: int, number: int, count: int, stream: str) -> NDArray[np.uint64]:
    if not 0 <= number < 2**64:
        raise ValueError(f"sample number {number}, expected a whole number of at least 0 and below 2^64")
    # Raw bits of a counter-based generator are the same in all versions of numpy.
    key, counter = np.array([seed, number], dtype=np.uint64), np.array([0, 0, 0, STREAMS[stream]], dtype=np.uint64)
    bits: NDArray[np.uint64] = np.random.Philox(key=key, counter=counter).random_raw(count)
    return bits


def guided(conditional: Tensor, unconditional: Tensor, scale: Tensor) -> Tensor:
    """Guided logits in float64; exactly the conditional ones where the scale is 1.

    Args:
        conditional: (B, n, K).
        unconditional: (B, n, K).
        scale: (n, 1), s of each token.
    """
    conditional, unconditional = conditional.double(), unconditional.double()
    return torch.where(scale == 1, conditional, unconditional + scale * (conditional - unconditional))


def filtered(logits: Tensor, sampling: Sampling) -> Tensor:
    """(..., K) logits to float64 logits divided by the temperature, with minus infinity for the entries that the filters remove."""
    logits = logits.double()
    # The maximum is subtracted first: a tiny temperature then gives minus infinity at worst.
    logits = (logits - logits.amax(-1, keepdim=True)) / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        last = logits.topk(sampling.top_k).values[..., -1:]
        logits = logits.masked_fill(logits < last, -math.inf)
    return logits if sampling.top_p == 1 else _top_p(logits, sampling.top_p)


def _top_p(logits: Tensor, top_p: float) -> Tensor:
    """Logits with minus infinity for all but the most likely entries, whose probabilities reach `top_p` together."""
    ordered = logits.sort(-1, descending=True).values
    weights = ordered.exp()
    sums = weights.cumsum(-1)
    needed = sums - weights < top_p * sums[..., -1:]  # the entries before this one do not reach top_p
    last = ordered.masked_fill(~needed, math.inf).amin(-1, keepdim=True)
    return logits.masked_fill(logits < last, -math.inf)


def choose(logits: Tensor, seeds: Tensor) -> Tensor:
    """A sample from softmax(logits) for each row; entries of minus infinity are never chosen.

    Args:
        logits: (..., K) float64; at least one entry of each row is finite.
        seeds: (...) int64 noise seeds.

    Returns:
        (...) int64 in [0, K).
    """
    return (logits - noise(seeds, logits.shape[-1]).log().neg().log()).argmax(-1)


def noise(seeds: Tensor, count: int) -> Tensor:
    """(...) int64 seeds to (..., count) float64 in (0, 1): the first numbers of SplitMix64 (Steele et al. 2014), 52 bits each.

    Computed on the device, because K numbers for each choice are too many to transfer.
    """
    state = seeds[..., None] + GOLDEN * torch.arange(1, count + 1, device=seeds.device)  # int64 wraps around
    for shift, factor in MIXING:
        state = (state ^ _shift_right(state, shift)) * factor
    return (_shift_right(state ^ _shift_right(state, 31), 12).double() + 0.5) * 2.0**-52


def _shift_right(bits: Tensor, places: int) -> Tensor:
    """Logical shift; >> on int64 would repeat the sign bit."""
    return (bits >> places) & ((1 << (64 - places)) - 1)
