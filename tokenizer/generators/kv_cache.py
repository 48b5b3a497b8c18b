"""Keys and values of all tokens so far, in memory that is allocated once, at the first step.

The write position is a tensor on the device and nothing is read back to the host, so a step that uses this cache can be recorded as a
CUDA graph and replayed. The idea is from gpt-fast.
"""

from functools import partial

import torch
from torch import Tensor

from tokenizer.layers.llama import CacheUpdate


class KVCache:
    """Keys and values of every layer, filled one position at a time.

    Args:
        shape: (layers, rows, attention heads, positions, channels per head).
        dtype: dtype of the parameters; under autocast the autocast dtype is used, as for keys and values.
        device: device of the cache.
        bucket: attention reads the filled positions rounded up to a multiple of this number and masks the rest. With 1 it reads only
            filled positions, and the shape changes at every step; CUDA graphs need a larger number, to have few shapes.

    Attributes:
        position: (1,) int64 on the device, the next position to write.
        length: the same number on the host, the number of filled positions.
        keys: of the given shape; None before the first step, so that an unused state takes no memory.
        values: likewise.
    """

    def __init__(self, shape: tuple[int, int, int, int, int], dtype: torch.dtype, device: torch.device, bucket: int = 1) -> None:
        if torch.is_autocast_enabled(device.type):
            dtype = torch.get_autocast_dtype(device.type)
        self.shape = shape
        self.dtype = dtype
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.length = 0
        self.bucket = bucket

    @property
    def capacity(self) -> int:
        """Number of positions."""
        return self.shape[3]

    @property
    def visible_length(self) -> int:
        """Number of positions that attention reads in the next step."""
        return min(self.capacity, -(-(self.length + 1) // self.bucket) * self.bucket)

    def layer_updates(self) -> list[CacheUpdate]:
        """One `CacheUpdate` per layer, for the next position.

        Raises:
            ValueError: the cache is full.
        """
        if self.length == self.capacity:
            raise ValueError(f"all {self.capacity} tokens are drawn; call start() for the next images")
        visible_length, layers = self.visible_length, zip(*self._allocated(), strict=True)
        mask = None
        if self.bucket > 1:
            mask = (torch.arange(visible_length, device=self.position.device) <= self.position)[None]
        return [partial(_update, keys, values, self.position, visible_length, mask) for keys, values in layers]

    def _allocated(self) -> tuple[Tensor, Tensor]:
        if self.keys is None or self.values is None:
            self.keys, self.values = (torch.zeros(self.shape, dtype=self.dtype, device=self.position.device) for _ in range(2))
        return self.keys, self.values

    def advance(self) -> None:
        """Move to the next position, after all layers have written theirs."""
        self.position += 1
        self.length += 1

    def load_(self, other: "KVCache") -> None:
        """Copy the filled positions of a cache of the same shape in place; others stay as they are, since attention masks them."""
        if other.length:
            for target, source in zip(self._allocated(), other._allocated(), strict=True):
                target[:, :, :, : other.length].copy_(source[:, :, :, : other.length])
        self.position.copy_(other.position)
        self.length = other.length


def _update(
    keys: Tensor, values: Tensor, position: Tensor, visible_length: int, mask: Tensor | None, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Write one position and return the visible ones. Not a method: a compiled block would specialize on the length of its cache."""
    keys.index_copy_(2, position, key)
    values.index_copy_(2, position, value)
    return keys[:, :, :visible_length], values[:, :, :visible_length], mask
