"""Grouped spherical quantization: look up each group of channels on the unit sphere, in one codebook for all groups.

Paper: Wang et al. 2024, arXiv:2412.02632, section 3. Latents and codes are normalized for the comparison only: the output is the
unnormalized codebook row, and the losses compare the normalized latent with that row.
Deviation: ties are broken by the lowest index by default, so that a lookup is deterministic; the paper's random choice is an option for
training.
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


class GroupedSphericalQuantizer(Quantizer):
    """Product quantization with one codebook (V, d) for all G groups of d = D / G channels.

    Args:
        latent_dim: D.
        groups: G, indices per token, a divisor of D.
        codebook_size: V.
        normalization: normalization of latents and codes for the comparison, per group. The paper uses none for d of 1 and 2 (section
            3.2); clip limits values to [-1, 1] and gives no gradient outside.
        initialization: rows uniform on the unit sphere, or channels in U(-1/V, 1/V) (U(-1, 1) for d = 1).
        ties: choice among codes at exactly the same distance; random applies to training mode only.

    Raises:
        ValueError: a size below its minimum, groups that do not divide latent_dim, or an unknown choice.
    """

    def __init__(
        self,
        latent_dim: int,
        groups: int,
        codebook_size: int,
        normalization: Literal["none", "l1", "l2", "clip"] = "l2",
        initialization: Literal["sphere", "uniform"] = "sphere",
        ties: Literal["lowest", "random"] = "lowest",
    ) -> None:
        super().__init__()
        require_at_least("latent_dim", latent_dim, 1)
        require_at_least("groups", groups, 1)
        require_at_least("codebook_size", codebook_size, 2)
        if latent_dim % groups:
            raise ValueError(f"groups={groups} does not divide latent_dim={latent_dim}; change groups or latent_dim")
        require_one_of("normalization", normalization, ("none", "l1", "l2", "clip"))
        require_one_of("initialization", initialization, ("sphere", "uniform"))
        require_one_of("ties", ties, ("lowest", "random"))
        self.latent_dim = latent_dim
        self.groups = groups
        self.codebook_size = codebook_size
        self.normalization = normalization
        self.initialization: Literal["sphere", "uniform"] = initialization
        self.ties: Literal["lowest", "random"] = ties
        self.codebook = nn.Parameter(torch.empty(codebook_size, latent_dim // groups))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Re-initialize the codebook."""
        initialize_codebook(self.codebook, self.initialization)

    @property
    def codes(self) -> Tensor:
        """(V, d)."""
        return self.codebook

    def forward(self, latents: Tensor) -> QuantizerOutput:
        """Quantize (B, N, D), with the losses of section 3.1: mean squared errors over all elements."""
        require_width(latents, self.latent_dim)
        dtype = compute_dtype(latents, self.codebook)
        compared = self._normalized(latents.to(dtype).reshape(*latents.shape[:2], self.groups, self.codebook.shape[1]))
        ties = self.ties if self.training else "lowest"
        indices = nearest_code(compared, self._normalized(self.codebook.to(dtype)), ties, unit_length=self.normalization == "l2")
        codes = self._rows(indices).to(dtype)
        flat = compared.flatten(2)
        losses = {"commitment": F.mse_loss(flat, codes.detach()), "codebook": F.mse_loss(codes, flat.detach())}
        return QuantizerOutput(straight_through(flat, codes).to(latents.dtype), indices, compared, losses)

    def indices_to_latents(self, indices: Tensor) -> Tensor:
        """(B, N, G) to (B, N, D): codebook rows, not normalized."""
        return self._rows(require_indices(indices, self.groups, self.codebook_size))

    def entropies(self, lookup_latents: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """See `Quantizer.entropies`; codes are normalized like the latents."""
        codes = self._normalized(self.codebook.to(compute_dtype(lookup_latents, self.codebook)))
        return group_entropies(lookup_latents, [codes] * self.groups, temperature)

    def _rows(self, indices: Tensor) -> Tensor:
        """(B, N, G) to (B, N, D)."""
        return F.embedding(indices, self.codebook).flatten(2)

    def _normalized(self, vectors: Tensor) -> Tensor:
        """(..., d) to (..., d)."""
        if self.normalization == "none":
            return vectors
        if self.normalization == "clip":
            return vectors.clamp(-1.0, 1.0)
        return F.normalize(vectors, p=1.0 if self.normalization == "l1" else 2.0, dim=-1)
