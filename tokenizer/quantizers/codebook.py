"""Initialization of codebooks.

Paper: Wang et al. 2024, arXiv:2412.02632, table 1: with rows on the sphere all codes are used, with the usual uniform distribution not.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def initialize_codebook(codebook: Tensor, initialization: Literal["sphere", "uniform"]) -> None:
    """Fill a codebook (..., V, d): rows uniform on the unit sphere, or channels in U(-1/V, 1/V), U(-1, 1) for d = 1."""
    if initialization == "sphere":
        codebook.copy_(F.normalize(codebook.normal_(), dim=-1))
    else:
        bound = 1.0 if codebook.shape[-1] == 1 else 1.0 / codebook.shape[-2]
        codebook.uniform_(-bound, bound)
