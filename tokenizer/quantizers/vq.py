"""Vector quantization: one index a token, the nearest row of a codebook.

Papers: van den Oord et al. 2017, arXiv:1711.00937 (losses, straight-through gradient); with l2 normalisation ViT-VQGAN, arXiv:2110.04627.
It is grouped spherical quantization with one group (arXiv:2412.02632, table 15).
"""

from typing import Literal

from tokenizer.quantizers.gsq import GroupedSphericalQuantizer


class VectorQuantizer(GroupedSphericalQuantizer):
    """A codebook (V, D)."""

    def __init__(
        self,
        latent_dim: int,
        codebook_size: int,
        normalization: Literal["none", "l1", "l2", "clip"] = "none",
        initialization: Literal["sphere", "uniform"] = "uniform",
    ) -> None:
        """Make a codebook.

        Args:
            latent_dim: D.
            codebook_size: V.
            normalization: of both sides of the comparison.
            initialization: rows drawn uniformly on the unit sphere, or channels in U(-1/V, 1/V).

        Raises:
            ValueError: a count below its minimum, or an unknown choice.
        """
        super().__init__(latent_dim, 1, codebook_size, normalization, initialization)
