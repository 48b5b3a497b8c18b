"""Finite scalar quantization: bound every channel and round it to a few levels.

Papers: Mentzer et al. 2023, arXiv:2309.15505 (symmetric, appendix A.1); the form in [0, 1] is arXiv:2412.02632, equation 6.
Deviation: for an even number of levels the shift is atanh, the inverse of the bound, instead of tan in the paper's listing, so that a
latent of zero is exactly the middle code.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from tokenizer.interfaces import Quantizer, QuantizerOutput
from tokenizer.layers.checks import ArgumentError, require_at_least, require_indices, require_one_of
from tokenizer.layers.precision import compute_dtype, full_precision
from tokenizer.quantizers.checks import MAXIMUM_BITS, require_width
from tokenizer.quantizers.straight_through import with_gradient_of

SHRINK = 1e-3  # keeps tanh inside the rounding range of the outermost levels (appendix A.1)
TOKENS_PER_ROW = 64  # element-wise functions of rows of a few channels are slow; these rows have the channels of many tokens
EXACT_INTEGERS = 2**24  # fp32 represents all integers below


@dataclass(frozen=True)
class _Constants:
    """Constants of the channels. The float ones are repeated for the tokens of a row."""

    shift: Tensor
    half: Tensor
    offset: Tensor
    width: Tensor
    lowest: Tensor  # (D,) int64, offset that makes levels start at 0
    radix: Tensor  # (D,) int64, value of one level of each channel within the index
    zero: Tensor  # () int64, index of the latent that rounds to 0 in all channels


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _constants(levels_per_dim: tuple[int, ...], bound: str, tokens: int, dtype: torch.dtype, device: torch.device) -> _Constants:
    """Constants for rows of a number of tokens."""
    levels = torch.tensor(levels_per_dim, device=device)
    radix = levels.cumprod(0) // levels
    if bound == "unit":
        half = width = (levels - 1).to(dtype)
        shift = offset = torch.zeros_like(half)
        lowest = torch.zeros_like(levels)
    else:
        half = (levels - 1).to(dtype) * (1 - SHRINK) / 2
        offset = 0.5 * (1 - levels % 2).to(dtype)
        shift, lowest = (offset / half).atanh(), levels // 2
        width = lowest.to(dtype)
    shift, half, offset, width = (values.repeat(tokens) for values in (shift, half, offset, width))
    return _Constants(shift, half, offset, width, lowest, radix, (lowest * radix).sum())


class FiniteScalarQuantizer(Quantizer):
    """One index per token in mixed radix, first channel least significant; no learned codes.

    Args:
        levels_per_dim: number of levels of each channel; its length is D.
        bound: tanh into [-1, 1], or the logistic function into [0, 1].

    Raises:
        ValueError: no channels, too few levels, more than 62 bits, or an unknown bound.
    """

    levels: Tensor

    def __init__(self, levels_per_dim: list[int], bound: Literal["symmetric", "unit"] = "symmetric") -> None:
        super().__init__()
        require_one_of("bound", bound, ("symmetric", "unit"))
        if not levels_per_dim:
            raise ArgumentError("levels_per_dim", list(levels_per_dim), "at least one number")
        for levels in levels_per_dim:
            # Two levels of the symmetric form would be -1 and 0.
            require_at_least("levels_per_dim", levels, 3 if bound == "symmetric" else 2)
        if math.prod(levels_per_dim) > 2**MAXIMUM_BITS:
            raise ArgumentError("levels_per_dim", list(levels_per_dim), f"at most 2^{MAXIMUM_BITS} codes, their product")
        self.levels_per_dim = tuple(levels_per_dim)
        self.latent_dim = len(levels_per_dim)
        self.groups = 1
        self.codebook_size = math.prod(levels_per_dim)
        self.bound = bound
        self.register_buffer("levels", torch.empty(self.latent_dim, dtype=torch.long))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Refill the constant buffer; no parameters."""
        self.levels.copy_(torch.tensor(self.levels_per_dim))

    def forward(self, latents: Tensor) -> QuantizerOutput:
        """Quantize (B, N, D); `lookup_latents` (B, N, 1, D) are the bounded latents; no losses."""
        require_width(latents, self.latent_dim)
        dtype = compute_dtype(latents)
        constants = self._constants(latents.device, dtype, math.gcd(len(latents) * latents.shape[1], TOKENS_PER_ROW) or 1)
        bounded = self._bounded(latents.to(dtype).reshape(-1, len(constants.half)), constants)
        rounded = bounded.detach().round()
        indices = self._indices(rounded.view(latents.shape), constants)
        scaled = bounded.div_(constants.width).view(latents.shape)
        codes = rounded.float().div_(constants.width.float()).to(dtype).view(latents.shape)
        return QuantizerOutput(with_gradient_of(scaled, codes).to(latents.dtype), indices, scaled.unsqueeze(2))

    def indices_to_latents(self, indices: Tensor) -> Tensor:
        """(B, N, 1) to (B, N, D) in fp32, in [-1, 1] or [0, 1]."""
        constants = self._constants(indices.device, torch.float32)
        return (self.split_indices(indices) - constants.lowest).float() / constants.width

    def split_indices(self, indices: Tensor) -> Tensor:
        """(B, N, 1) to (B, N, D), the level of each channel, counted from 0."""
        indices = require_indices(indices, 1, self.codebook_size)
        return indices // self._constants(indices.device, torch.float32).radix % self.levels

    def _bounded(self, latents: Tensor, constants: _Constants) -> Tensor:
        """Bounded latents on a scale where rounding gives levels, starting at -(levels // 2), or at 0 for the unit bound."""
        if self.bound == "unit":
            return latents.sigmoid() * constants.half
        bounded = (latents + constants.shift).tanh_()
        # The gradient of tanh needs its output.
        bounded = bounded * constants.half if bounded.requires_grad else bounded.mul_(constants.half)
        return bounded.sub_(constants.offset)

    def _indices(self, rounded: Tensor, constants: _Constants) -> Tensor:
        """(B, N, D) to (B, N, 1) int64; a token with NaN gets a valid index."""
        if self.codebook_size > EXACT_INTEGERS:
            return ((rounded.nan_to_num().long() + constants.lowest) * constants.radix).sum(-1, keepdim=True)
        with full_precision(rounded.device):
            sums = torch.mv(rounded.flatten(0, 1), constants.radix.to(rounded.dtype))
        return sums.nan_to_num_().long().add_(constants.zero).view(*rounded.shape[:2], 1)

    def _constants(self, device: torch.device, dtype: torch.dtype, tokens: int = 1) -> _Constants:
        return _constants(self.levels_per_dim, self.bound, tokens, dtype, device)
