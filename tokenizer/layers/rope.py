"""Rotary positions on a grid: half of the channel pairs of a head are rotated by the row, half by the column.

Papers: Su et al. 2021, arXiv:2104.09864; on a grid as in LlamaGen, Sun et al. 2024, arXiv:2406.06525.
Queries and keys of prefix positions, such as a class, are unchanged or multiplied by zero, as in LlamaGen's released code.
Deviation: the two channels of a pair are half a head apart, which is equivalent up to a permutation of learned channels.
"""

from typing import Literal

import torch
from torch import Tensor

Prefix = Literal["identity", "zero"]


def grid_rotation(
    grid: tuple[int, int],
    head_dim: int,
    prefix: int,
    device: torch.device,
    base: float = 10000.0,
    prefix_kind: Prefix = "identity",
) -> Tensor:
    """Cosines and sines of a prefix without positions, followed by all cells in raster order.

    Args:
        grid: (h, w).
        head_dim: d, a multiple of 4.
        prefix: number of positions before the first cell.
        device: device of the result.
        base: ratio of the wavelengths, which range from 2 pi cells to nearly 2 pi `base` cells.
        prefix_kind: identity leaves queries and keys of the prefix unchanged, zero multiplies them by zero.

    Returns:
        (prefix + h w, d/2, 2) fp32.

    Raises:
        ValueError: d is not a multiple of 4.
    """
    if head_dim % 4:
        raise ValueError(f"rotary positions need a head width that is a multiple of 4, got {head_dim}; change width or attention_heads")
    pairs = head_dim // 4
    frequencies = base ** (-torch.arange(pairs, device=device, dtype=torch.float32) / pairs)
    cells = torch.arange(grid[0] * grid[1], device=device)
    positions = torch.stack([cells // grid[1], cells % grid[1]], 1).float()
    angles = (positions[:, :, None] * frequencies).flatten(1)
    angles = torch.cat([angles.new_zeros(prefix, 2 * pairs), angles])
    rotation = torch.stack([angles.cos(), angles.sin()], -1)
    if prefix_kind == "zero":
        rotation[:prefix] = 0
    return rotation


def rotate(features: Tensor, rotation: Tensor) -> Tensor:
    """Rotate the channel pairs of queries or keys, in fp32.

    Args:
        features: (B, heads, n, d).
        rotation: (n, d/2, 2) rows of `grid_rotation`.

    Returns:
        (B, heads, n, d) in the features' dtype.
    """
    first, second = features.chunk(2, dim=-1)
    cosine, sine = rotation.unbind(-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1).to(features.dtype)
