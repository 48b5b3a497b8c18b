"""Self-attention between the cells of a feature map, as autoencoders use it at their lowest resolution.

Source: Esser et al. 2021 (VQGAN), arXiv:2012.09841; used by GSQ, arXiv:2412.02632.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.layers.conv import ScaledConv2d
from tokenizer.layers.norm import group_norm


class SpatialAttention(nn.Module):
    """One attention head over all cells, with a residual: x + W_o attend(W_qkv norm(x))."""

    def __init__(self, channels: int, norm_groups: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, norm_groups, eps=1e-6)
        self.qkv = ScaledConv2d(channels, 3 * channels, 1)
        self.out = ScaledConv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same shape."""
        tokens = self.qkv(self.norm(features)).flatten(2).transpose(1, 2)
        query, key, value = tokens.unsqueeze(1).chunk(3, dim=-1)
        attended = F.scaled_dot_product_attention(query, key, value).squeeze(1)
        mixed: Tensor = self.out(attended.transpose(1, 2).reshape(features.shape))
        return features + mixed
