"""Vector quantization: one index per token, the nearest row of a codebook.

Papers: van den Oord et al. 2017, arXiv:1711.00937 (losses, straight-through gradient); with l2 normalization ViT-VQGAN, arXiv:2110.04627.
Equivalent to grouped spherical quantization with one group (arXiv:2412.02632, table 15).
"""

from typing import Literal

from tokenizer.quantizers.gsq import GroupedSphericalQuantizer


class VectorQuantizer(GroupedSphericalQuantizer):
    """Nearest row of a codebook (V, D).

    Args:
        latent_dim: D.
        codebook_size: V.
        normalization: normalization of latents and codes for the comparison.
        initialization: rows uniform on the unit sphere, or channels in U(-1/V, 1/V).

    Raises:
        ValueError: a size below its minimum, or an unknown choice.
    """

    def __init__(
        self,
        latent_dim: int,
        codebook_size: int,
        normalization: Literal["none", "l1", "l2", "clip"] = "none",
        initialization: Literal["sphere", "uniform"] = "uniform",
    ) -> None:
        super().__init__(latent_dim, 1, codebook_size, normalization, initialization)
