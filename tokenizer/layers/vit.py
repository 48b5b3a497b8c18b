"""Blocks of vision transformers: attention among the tokens, and attention of queries to a memory.

Papers: Dosovitskiy et al. 2021 (ViT), arXiv:2010.11929; blocks with queries as in DETR, Carion et al. 2020, arXiv:2005.12872; sizes and
initialization as in GigaTok, Xiong et al. 2025, arXiv:2504.08736. A layer norm comes before every part, and all linear layers have biases.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.layers.checks import ArgumentError

INITIAL_STD = 0.02


class Attention(nn.Module):
    """Attention of tokens to themselves or to a memory. Positions are added to queries and keys alone, never to values.

    Args:
        width: W.
        attention_heads: number of heads, a divisor of the width.

    Raises:
        ValueError: the heads do not divide the width.
    """

    def __init__(self, width: int, attention_heads: int) -> None:
        super().__init__()
        if attention_heads < 1 or width % attention_heads:
            raise ArgumentError("attention_heads", attention_heads, f"a divisor of the width {width}")
        self.width, self.attention_heads = width, attention_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        features: Tensor,
        positions: Tensor | None = None,
        memory: Tensor | None = None,
        memory_positions: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            features: (B, N, W).
            positions: (N, W), or None.
            memory: (B, M, W), or None for the features themselves, with their positions.
            memory_positions: (M, W), or None.

        Returns:
            (B, N, W).
        """
        of_query, of_key, _ = self.qkv.weight.chunk(3)
        if memory is None:
            query, key, value = self.qkv(features).chunk(3, -1)
            memory_positions = positions
        else:
            weight, bias, width = self.qkv.weight, self.qkv.bias, self.width
            query = F.linear(features, of_query, bias[:width])
            key, value = F.linear(memory, weight[width:], bias[width:]).chunk(2, -1)
        # W (x + p) = W x + W p, where W p is the same for all images.
        if positions is not None:
            query = query + F.linear(positions, of_query)
        if memory_positions is not None:
            key = key + F.linear(memory_positions, of_key)
        heads = (x.unflatten(-1, (self.attention_heads, -1)).transpose(1, 2) for x in (query, key, value))
        mixed: Tensor = self.out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
        return mixed

    def reset_parameters(self) -> None:
        """Initialize queries, keys and values together by Xavier's uniform distribution, as torch's attention does; biases are zero."""
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        reset_linear(self.out)


class ViTBlock(nn.Module):
    """Attention among tokens, then a feed-forward of four times the width."""

    def __init__(self, width: int, attention_heads: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), Attention(width, attention_heads)
        self.feedforward_norm, self.feedforward = nn.LayerNorm(width), _feedforward(width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, N, W) to the same shape."""
        features = features + self.attention(self.attention_norm(features))
        out: Tensor = features + self.feedforward(self.feedforward_norm(features))
        return out

    def reset_parameters(self) -> None:
        """Re-initialize all parameters."""
        _reset_block(self)


class QueryBlock(nn.Module):
    """Attention among queries, attention of the queries to a memory, then a feed-forward of four times the width."""

    def __init__(self, width: int, attention_heads: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), Attention(width, attention_heads)
        self.memory_norm, self.memory_attention = nn.LayerNorm(width), Attention(width, attention_heads)
        self.feedforward_norm, self.feedforward = nn.LayerNorm(width), _feedforward(width)

    def forward(self, queries: Tensor, positions: Tensor, memory: Tensor, memory_positions: Tensor) -> Tensor:
        """Process queries (B, N, W) with positions (N, W); the memory (B, M, W), with positions (M, W), is not normalized."""
        queries = queries + self.attention(self.attention_norm(queries), positions)
        queries = queries + self.memory_attention(self.memory_norm(queries), positions, memory, memory_positions)
        out: Tensor = queries + self.feedforward(self.feedforward_norm(queries))
        return out

    def reset_parameters(self) -> None:
        """Re-initialize all parameters."""
        _reset_block(self)


def reset_linear(layer: nn.Linear | nn.Conv2d) -> None:
    """Initialize the weights from N(0, 0.02^2), truncated at 2 in absolute value, and the biases with zero."""
    nn.init.trunc_normal_(layer.weight, std=INITIAL_STD)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def resize_positions(table: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Positions of another grid, by bicubic interpolation of the table.

    Args:
        table: (h w, W), in raster order.
        grid: (h, w) of the table.
        size: (h', w') of the result.

    Returns:
        (h' w', W); the table itself if the grids are equal.
    """
    if size == grid:
        return table
    cells = table.t().reshape(1, -1, *grid)
    return F.interpolate(cells, size, mode="bicubic", align_corners=False)[0].flatten(1).t()


def _feedforward(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


def _reset_block(block: nn.Module) -> None:
    for layer in block.children():
        if isinstance(layer, Attention | nn.LayerNorm):
            layer.reset_parameters()
        elif isinstance(layer, nn.Sequential):
            for part in layer:
                if isinstance(part, nn.Linear):
                    reset_linear(part)
