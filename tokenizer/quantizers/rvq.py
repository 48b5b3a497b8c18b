"""Residual vector quantization: each level quantizes the residual of the previous levels.

Papers: Zeghidour et al. 2021, arXiv:2107.03312 (SoundStream); Lee et al. 2022, arXiv:2203.01941 (RQ-VAE, one codebook for all levels),
compared in arXiv:2412.02632, figure 2. The losses of a level compare its code with its own residual, not with the whole latent.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.interfaces import Quantizer, QuantizerOutput
from tokenizer.layers.checks import require_at_least, require_indices, require_one_of
from tokenizer.layers.precision import compute_dtype
from tokenizer.quantizers.checks import require_width
from tokenizer.quantizers.codebook import initialize_codebook
from tokenizer.quantizers.entropy import group_entropies
from tokenizer.quantizers.lookup import nearest_code
from tokenizer.quantizers.straight_through import straight_through


class ResidualVectorQuantizer(Quantizer):
    """Sum of `levels` codes of D channels, coarse to fine. The groups of the indices are the levels.

    Args:
        latent_dim: D.
        levels: codes per token.
        codebook_size: V of one level.
        shared_codebook: one codebook for all levels, as in arXiv:2203.01941, instead of one for each.
        initialization: rows uniform on the unit sphere, or channels in U(-1/V, 1/V).

    Raises:
        ValueError: a size below its minimum, or an unknown choice.
    """

    def __init__(
        self,
        latent_dim: int,
        levels: int,
        codebook_size: int,
        shared_codebook: bool = True,
        initialization: Literal["sphere", "uniform"] = "sphere",
    ) -> None:
        super().__init__()
        require_at_least("latent_dim", latent_dim, 1)
        require_at_least("levels", levels, 1)
        require_at_least("codebook_size", codebook_size, 2)
        require_one_of("initialization", initialization, ("sphere", "uniform"))
        self.latent_dim = latent_dim
        self.groups = levels
        self.codebook_size = codebook_size
        self.initialization: Literal["sphere", "uniform"] = initialization
        self.codebook = nn.Parameter(torch.empty(1 if shared_codebook else levels, codebook_size, latent_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Re-initialize all codebooks."""
        initialize_codebook(self.codebook, self.initialization)

    @property
    def codes(self) -> Tensor:
        """(V, D), or (levels * V, D) with a codebook for each level."""
        return self.codebook.flatten(0, 1)

    def forward(self, latents: Tensor) -> QuantizerOutput:
        """Quantize (B, N, D); each loss is the mean over levels and elements."""
        require_width(latents, self.latent_dim)
        dtype = compute_dtype(latents, self.codebook)
        values = latents.to(dtype)
        total = torch.zeros_like(values)
        indices, residuals, codes = [], [], []
        for level in range(self.groups):
            residuals.append(values - total.detach())
            indices.append(nearest_code(residuals[-1], self._table(level)))
            codes.append(F.embedding(indices[-1], self._table(level)).to(dtype))
            total = total + codes[-1]
        compared, nearest = torch.stack(residuals, 2), torch.stack(codes, 2)
        losses = {"commitment": F.mse_loss(compared, nearest.detach()), "codebook": F.mse_loss(nearest, compared.detach())}
        quantized = straight_through(values, total).to(latents.dtype)
        return QuantizerOutput(quantized, torch.stack(indices, 2), compared, losses)

    def indices_to_latents(self, indices: Tensor) -> Tensor:
        """(B, N, levels) to (B, N, D), the sum of the codes of all levels."""
        indices = require_indices(indices, self.groups, self.codebook_size)
        dtype = compute_dtype(self.codebook)
        total = torch.zeros(*indices.shape[:2], self.latent_dim, dtype=dtype, device=indices.device)
        for level in range(self.groups):
            total = total + F.embedding(indices[..., level], self._table(level)).to(dtype)
        return total.to(self.codebook.dtype)

    def entropies(self, lookup_latents: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """See `Quantizer.entropies`: residuals of each level and its codes."""
        return group_entropies(lookup_latents, [self._table(level) for level in range(self.groups)], temperature)

    def _table(self, level: int) -> Tensor:
        """Codebook (V, D) of one level."""
        return self.codebook[min(level, len(self.codebook) - 1)]
