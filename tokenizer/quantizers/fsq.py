"""Finite scalar quantization: bound every channel and round it to a few levels.

Papers: Mentzer et al. 2023, arXiv:2309.15505 (symmetric, appendix A.1); the form in [0, 1] is arXiv:2412.02632, equation 6.
Deviation: for an even number of levels the shift is atanh, the inverse of the bound, instead of tan in the paper's listing, so that a
latent of zero is exactly the middle code.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from tokenizer.interfaces import Quantizer, QuantizerOutput
from tokenizer.layers.checks import require_at_least, require_one_of
from tokenizer.quantizers.checks import MAXIMUM_BITS, require_indices, require_width
from tokenizer.quantizers.straight_through import straight_through

SHRINK = 1e-3  # keeps tanh inside the rounding range of the outermost levels (appendix A.1)


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
        require_at_least("length of levels_per_dim", len(levels_per_dim), 1)
        for levels in levels_per_dim:
            # Two levels of the symmetric form would be -1 and 0.
            require_at_least("levels_per_dim", levels, 3 if bound == "symmetric" else 2)
        if math.prod(levels_per_dim) > 2**MAXIMUM_BITS:
            raise ValueError(f"levels_per_dim={list(levels_per_dim)} are more than 2^{MAXIMUM_BITS} codes; shorten levels_per_dim")
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
        """Quantize (B, N, D) in fp32; `lookup_latents` (B, N, 1, D) are the bounded latents; no losses."""
        require_width(latents, self.latent_dim)
        bounded = self._bounded(latents.float())
        digits = bounded.detach().round() + self._lowest_level()
        digits = digits.nan_to_num().long()
        indices = (digits * self._radix()).sum(-1, keepdim=True)
        scaled = self._to_codes(bounded + self._lowest_level())
        return QuantizerOutput(straight_through(scaled, self._to_codes(self._digits(indices).float())), indices, scaled.unsqueeze(2))

    def indices_to_latents(self, indices: Tensor) -> Tensor:
        """(B, N, 1) to (B, N, D), in [-1, 1] or [0, 1]."""
        return self._to_codes(self.split_indices(indices).float())

    def split_indices(self, indices: Tensor) -> Tensor:
        """(B, N, 1) to (B, N, D), the level of each channel, counted from 0."""
        return self._digits(require_indices(indices, 1, self.codebook_size))

    def _digits(self, indices: Tensor) -> Tensor:
        return indices // self._radix() % self.levels

    def _bounded(self, latents: Tensor) -> Tensor:
        """Bounded latents on a scale where rounding gives levels, starting at -(levels // 2), or at 0 for the unit bound."""
        if self.bound == "unit":
            return latents.sigmoid() * (self.levels - 1)
        half = (self.levels - 1) * (1 - SHRINK) / 2
        offset = 0.5 * (1 - self.levels % 2)
        return (latents + (offset / half).atanh()).tanh() * half - offset

    def _lowest_level(self) -> Tensor:
        """(D,), offset that makes levels start at 0."""
        return self.levels // 2 if self.bound == "symmetric" else torch.zeros_like(self.levels)

    def _to_codes(self, digits: Tensor) -> Tensor:
        """Levels counted from 0 to codes."""
        if self.bound == "unit":
            return digits / (self.levels - 1)
        half_width = self.levels // 2
        return (digits - half_width) / half_width

    def _radix(self) -> Tensor:
        """(D,), value of one level of each channel within the index."""
        return self.levels.cumprod(0) // self.levels
