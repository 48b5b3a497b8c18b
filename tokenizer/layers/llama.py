"""The causal transformer block of Llama: RMS norm before each half, attention with fused projections, a gated feed-forward.

Papers: Touvron et al. 2023, arXiv:2302.13971; sizes and dropout as in LlamaGen, Sun et al. 2024, arXiv:2406.06525. No biases.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.layers.rope import rotate

Remember = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor | None]]
"""Keys and values (B, heads, 1, d) of one new position to those of all positions so far (B, heads, n, d), and a mask (1, n), True where
there is one; no mask where all n are filled."""

INITIAL_DEVIATION = 0.02
HIDDEN_MULTIPLE = 256


class CausalAttention(nn.Module):
    """Every position attends to itself and those before it."""

    def __init__(self, width: int, attention_heads: int) -> None:
        """Set the sizes.

        Raises:
            ValueError: the heads do not divide the width.
        """
        super().__init__()
        if attention_heads < 1 or width % attention_heads:
            raise ValueError(f"width={width} does not divide into attention_heads={attention_heads}; change generator.attention_heads")
        self.attention_heads = attention_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, features: Tensor, rotation: Tensor | None, remember: Remember | None) -> Tensor:
        """(B, n, W) to the same shape; see `LlamaBlock`."""
        query, key, value = self.qkv(features).unflatten(-1, (3, self.attention_heads, -1)).permute(2, 0, 3, 1, 4)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if remember is None:
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            key, value, mask = remember(key, value)
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return mixed


class SwiGLU(nn.Module):
    """W_3 (silu(W_1 x) * W_2 x), about 8/3 of the width inside, rounded up to a multiple of 256."""

    def __init__(self, width: int) -> None:
        """Set the width."""
        super().__init__()
        hidden = -(-int(2 / 3 * 4 * width) // HIDDEN_MULTIPLE) * HIDDEN_MULTIPLE
        self.inner = nn.Linear(width, 2 * hidden, bias=False)
        self.outer = nn.Linear(hidden, width, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(..., W) to the same shape."""
        gate, value = self.inner(features).chunk(2, dim=-1)
        mixed: Tensor = self.outer(F.silu(gate) * value)
        return mixed


class LlamaBlock(nn.Module):
    """Attention and feed-forward, each added to what it read."""

    def __init__(self, width: int, attention_heads: int, dropout: float) -> None:
        """Set the sizes.

        Args:
            width: W.
            attention_heads: divides the width.
            dropout: of the output of attention and of the feed-forward.

        Raises:
            ValueError: the heads do not divide the width.
        """
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=1e-5)
        self.attention = CausalAttention(width, attention_heads)
        self.feedforward_norm = nn.RMSNorm(width, eps=1e-5)
        self.feedforward = SwiGLU(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, rotation: Tensor | None = None, remember: Remember | None = None) -> Tensor:
        """One pass over whole sequences, or over the next position of each.

        Args:
            features: (B, n, W).
            rotation: (n, d/2, 2) of `rope.grid_rotation` for these positions, or none.
            remember: given if n = 1 and the positions before are kept elsewhere.

        Returns:
            (B, n, W).
        """
        features = features + self.dropout(self.attention(self.attention_norm(features), rotation, remember))
        out: Tensor = features + self.dropout(self.feedforward(self.feedforward_norm(features)))
        return out

    def reset_parameters(self) -> None:
        """Draw all weights from N(0, 0.02^2); norms start at one."""
        for layer in (self.attention.qkv, self.attention.out, self.feedforward.inner, self.feedforward.outer):
            nn.init.normal_(layer.weight, std=INITIAL_DEVIATION)
        self.attention_norm.reset_parameters()
        self.feedforward_norm.reset_parameters()
