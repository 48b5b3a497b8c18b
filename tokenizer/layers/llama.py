"""The causal transformer block of Llama: RMS norm before each half, attention with fused projections, a gated feed-forward.

Papers: Touvron et al. 2023, arXiv:2302.13971; sizes and dropout as in LlamaGen, Sun et al. 2024, arXiv:2406.06525. No biases.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.layers.checks import ArgumentError, require_at_least, require_positive
from tokenizer.layers.rope import rotate

# Stores the keys and values (B, heads, 1, d) of one position in a cache. Returns those of n positions, (B, heads, n, d), and a mask (1, n)
# that is True for filled positions, or None if all n are filled.
CacheUpdate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor | None]]

INITIAL_STD = 0.02
HIDDEN_MULTIPLE = 256
NORM_EPS = 1e-5


def rms_norm(width: int, eps: float) -> nn.RMSNorm:
    """RMS norm over the last axis.

    Raises:
        ValueError: epsilon is not positive and finite.
    """
    require_positive("generator.norm_eps", eps)
    return nn.RMSNorm(width, eps=eps)


class CausalAttention(nn.Module):
    """Every position attends to itself and to all previous ones."""

    def __init__(self, width: int, attention_heads: int) -> None:
        super().__init__()
        if attention_heads < 1 or width % attention_heads:
            raise ArgumentError("generator.attention_heads", attention_heads, f"a divisor of the width {width}")
        self.attention_heads = attention_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, features: Tensor, rotation: Tensor | None, cache_update: CacheUpdate | None) -> Tensor:
        """(B, n, W) to the same shape; see `LlamaBlock`."""
        query, key, value = self.qkv(features).unflatten(-1, (3, self.attention_heads, -1)).permute(2, 0, 3, 1, 4)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if cache_update is None:
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            key, value, mask = cache_update(key, value)
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return mixed


class SwiGLU(nn.Module):
    """W_3 (silu(W_1 x) * W_2 x); the hidden width is 8/3 of the width, rounded up to a multiple."""

    def __init__(self, width: int, multiple: int = HIDDEN_MULTIPLE) -> None:
        super().__init__()
        require_at_least("generator.feedforward_multiple", multiple, 1)
        hidden = -(-int(2 / 3 * 4 * width) // multiple) * multiple
        self.inner = nn.Linear(width, 2 * hidden, bias=False)
        self.outer = nn.Linear(hidden, width, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(..., W) to the same shape."""
        gate, value = self.inner(features).chunk(2, dim=-1)
        mixed: Tensor = self.outer(F.silu(gate) * value)
        return mixed


class LlamaBlock(nn.Module):
    """Attention and feed-forward, each with a norm before it and a residual connection.

    Args:
        width: W.
        attention_heads: number of heads, a divisor of the width.
        dropout: dropout rate of the output of attention and of the feed-forward.
        feedforward_multiple: the hidden width of the feed-forward is rounded up to a multiple of this number.
        norm_eps: epsilon of the norms.

    Raises:
        ValueError: the heads do not divide the width, a multiple below 1, or an epsilon that is not positive.
    """

    def __init__(
        self,
        width: int,
        attention_heads: int,
        dropout: float,
        feedforward_multiple: int = HIDDEN_MULTIPLE,
        norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__()
        self.attention_norm = rms_norm(width, norm_eps)
        self.attention = CausalAttention(width, attention_heads)
        self.feedforward_norm = rms_norm(width, norm_eps)
        self.feedforward = SwiGLU(width, feedforward_multiple)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, rotation: Tensor | None = None, cache_update: CacheUpdate | None = None) -> Tensor:
        """Process whole sequences, or the next position of each.

        Args:
            features: (B, n, W).
            rotation: (n, d/2, 2) from `rope.grid_rotation` for these positions, or None.
            cache_update: with n = 1, the cache of the previous positions.

        Returns:
            (B, n, W).
        """
        features = features + self.dropout(self.attention(self.attention_norm(features), rotation, cache_update))
        out: Tensor = features + self.dropout(self.feedforward(self.feedforward_norm(features)))
        return out

    def reset_parameters(self) -> None:
        """Initialize all weights from N(0, 0.02^2) and the norms with ones."""
        for layer in (self.attention.qkv, self.attention.out, self.feedforward.inner, self.feedforward.outer):
            nn.init.normal_(layer.weight, std=INITIAL_STD)
        self.attention_norm.reset_parameters()
        self.feedforward_norm.reset_parameters()
