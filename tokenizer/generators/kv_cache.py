"""Keys and values of all tokens so far, in memory that is allocated once.

Where the next token is written is a number on the device, and nothing is read back to the host: a step that uses this cache can be
recorded as a CUDA graph and replayed. The idea is gpt-fast's.
"""

from functools import partial

import torch
from torch import Tensor

from tokenizer.layers.llama import Remember


class KVCache:
    """A slot for every layer, row and position, filled one position at a time.

    Attributes:
        position: (1,) int64 on the device, the slot of the next token.
        filled: the same number on the host. A replayed graph moves only `position`: who replays adds one to `filled`.
    """

    def __init__(self, shape: tuple[int, int, int, int, int], dtype: torch.dtype, device: torch.device, bucket: int = 1) -> None:
        """Allocate an empty cache.

        Args:
            shape: (layers, rows, attention heads, positions, channels of a head).
            dtype: of the parameters; under autocast its dtype is taken instead, as for keys and values.
            device: where they are.
            bucket: attention reads the filled positions rounded up to a multiple of this, and masks the rest. 1 reads exactly the
                filled ones, a new shape at every step; a larger number keeps to a few shapes, as recorded graphs need.
        """
        if torch.is_autocast_enabled(device.type):
            dtype = torch.get_autocast_dtype(device.type)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.filled = 0
        self.bucket = bucket

    @property
    def length(self) -> int:
        """Positions that there is room for."""
        return self.keys.shape[3]

    @property
    def window(self) -> int:
        """Positions that the next step reads; steps with equal windows can share a recorded graph."""
        return min(self.length, -(-(self.filled + 1) // self.bucket) * self.bucket)

    def slots(self) -> list[Remember]:
        """For each layer in turn, what puts the next token's keys and values in place and returns all so far.

        Raises:
            ValueError: the cache is full.
        """
        if self.filled == self.length:
            raise ValueError(f"all {self.length} tokens are drawn already; start anew for the next images")
        window = self.window
        mask = None if self.bucket == 1 else (torch.arange(window, device=self.position.device) <= self.position)[None]
        return [partial(_write, keys, values, self.position, window, mask) for keys, values in zip(self.keys, self.values, strict=True)]

    def advance(self) -> None:
        """Move on to the next position, after all layers have written."""
        self.position += 1
        self.filled += 1


def _write(
    keys: Tensor, values: Tensor, position: Tensor, window: int, mask: Tensor | None, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Put one position in place and give the first `window`; it knows no cache, whose count would make each step another program."""
    keys.index_copy_(2, position, key)
    values.index_copy_(2, position, value)
    return keys[:, :, :window], values[:, :, :window], mask
