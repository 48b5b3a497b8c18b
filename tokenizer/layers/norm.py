"""Group normalisation: the plain one with a readable error, and the one that the quantized latents steer.

Papers: Wu & He 2018, arXiv:1803.08494; adaptive group norm as in GSQ, arXiv:2412.02632 section 4.1 (after StyleGAN).
"""

import torch
from torch import Tensor, nn


def group_norm(channels: int, groups: int, eps: float = 1e-5, affine: bool = True) -> nn.GroupNorm:
    """A group norm over (B, C, h, w).

    Raises:
        ValueError: groups do not divide the channels.
    """
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} channels do not divide into {groups} groups of group norm; change width, multipliers or norm_groups")
    return nn.GroupNorm(groups, channels, eps=eps, affine=affine)


def token_statistics(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over the tokens of an image.

    The variance is the unbiased one, which a single token does not have: there it is taken as 0.

    Args:
        latents: (B, N, D).

    Returns:
        two tensors (B, D), computed in fp32, the second sqrt(variance + 1e-6).
    """
    values = latents.float()
    variance = values.var(1, correction=1 if latents.shape[1] > 1 else 0)
    return values.mean(1).to(latents.dtype), torch.sqrt(variance + 1e-6).to(latents.dtype)


class AdaptiveGroupNorm(nn.Module):
    """Group norm whose scale and shift are linear in the statistics of the quantized latents.

    y = scale * norm(x) + shift with scale = W_s std + b_s and shift = W_m mean + b_m. Neither starts at an identity:
    the linear layers have torch's default start, as in the paper's code.
    """

    def __init__(self, channels: int, latent_dim: int, groups: int) -> None:
        """Normalise C = `channels` channels, steered by statistics of width D = `latent_dim`."""
        super().__init__()
        self.norm = group_norm(channels, groups, eps=1e-6, affine=False)
        self.scale = nn.Linear(latent_dim, channels)
        self.shift = nn.Linear(latent_dim, channels)

    def forward(self, features: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        """(B, C, h, w) features and (B, D) statistics of `token_statistics` to (B, C, h, w)."""
        scale, shift = self.scale(deviation)[..., None, None], self.shift(mean)[..., None, None]
        return torch.addcmul(shift, scale, self.norm(features).to(scale.dtype))
