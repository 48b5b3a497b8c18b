"""Binary spherical quantization: the nearest corner of the cube inscribed in the unit sphere.

Paper: Zhao et al. 2024, arXiv:2406.07548, section 3.
Deviation: the batch entropy is exact; the paper approximates the mean distribution by independent bits.
"""

import torch.nn.functional as F
from torch import Tensor

from tokenizer.quantizers.binary import BinaryQuantizer


class BinarySphericalQuantizer(BinaryQuantizer):
    """Codes {-1, 1}^D / sqrt(D), with latents scaled to length 1 over all D channels.

    Args:
        latent_dim: D, bits per token.

    Raises:
        ValueError: D outside 1 to 62.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim, on_sphere=True)

    def compared(self, latents: Tensor) -> Tensor:
        """Latents (B, N, D), scaled to length 1."""
        return F.normalize(latents, dim=-1)
