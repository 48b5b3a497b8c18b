"""Group normalization: with a readable error, and with scale and shift computed from the quantized latents.

Papers: Wu & He 2018, arXiv:1803.08494; adaptive group norm as in GSQ, arXiv:2412.02632 section 4.1 (after StyleGAN).
"""

import torch
from torch import Tensor, nn

from tokenizer.layers.precision import compute_dtype


def group_norm(channels: int, groups: int, eps: float = 1e-5, affine: bool = True) -> nn.GroupNorm:
    """Group norm over (B, C, h, w).

    Raises:
        ValueError: groups do not divide the channels.
    """
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} channels do not divide into {groups} groups of group norm; change width, multipliers or norm_groups")
    return nn.GroupNorm(groups, channels, eps=eps, affine=affine)


def token_statistics(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over the tokens of an image.

    The variance is unbiased, and 0 for a single token.

    Args:
        latents: (B, N, D).

    Returns:
        Mean and sqrt(variance + 1e-6), both (B, D), computed in fp32, or in float64 if given.
    """
    if not len(latents):  # of which torch would warn
        return latents.sum(1), latents.sum(1)
    values = latents.to(compute_dtype(latents))
    variance = values.var(1, correction=1 if latents.shape[1] > 1 else 0)
    return values.mean(1).to(latents.dtype), torch.sqrt(variance + 1e-6).to(latents.dtype)


class AdaptiveGroupNorm(nn.Module):
    """Group norm whose scale and shift are linear functions of statistics of the quantized latents.

    y = scale * norm(x) + shift, scale = W_s std + b_s, shift = W_m mean + b_m. The linear layers have torch's default initialization, as
    in the paper's code, so y is not norm(x) at the start.

    Args:
        channels: C.
        latent_dim: D.
        groups: number of groups of the group norm.
    """

    def __init__(self, channels: int, latent_dim: int, groups: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups, eps=1e-6, affine=False)
        self.scale = nn.Linear(latent_dim, channels)
        self.shift = nn.Linear(latent_dim, channels)

    def forward(self, features: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """(B, C, h, w) features and (B, D) statistics from `token_statistics` to (B, C, h, w)."""
        scale, shift = self.scale(std)[..., None, None], self.shift(mean)[..., None, None]
        return torch.addcmul(shift, scale, self.norm(features).to(scale.dtype))
