"""Lookup-free quantization: the sign of each channel is the code.

Paper: Yu et al. 2023, arXiv:2310.05737, section 3.1 (MAGVIT-2); used by MergeVQ (arXiv:2504.00999). A channel of exactly zero is -1.
"""

import torch.nn.functional as F
from torch import Tensor

from tokenizer.quantizers.binary import BinaryQuantizer


class LookupFreeQuantizer(BinaryQuantizer):
    """Codes {-1, 1}^D.

    Args:
        latent_dim: D, bits per token.
        spherical: scale latents to length 1 before commitment and entropy; the codes remain -1 and 1 (binary spherical quantization
            scales the codes too).

    Raises:
        ValueError: D outside 1 to 62.
    """

    def __init__(self, latent_dim: int, spherical: bool = False) -> None:
        super().__init__(latent_dim, on_sphere=False)
        self.spherical = spherical

    def compared(self, latents: Tensor) -> Tensor:
        """Latents (B, N, D), scaled to length 1 if `spherical`."""
        return F.normalize(latents, dim=-1) if self.spherical else latents
