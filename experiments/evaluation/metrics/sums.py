"""Named running sums that stay on the device until they are read."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tokenizer.layers.distributed import sum_over_ranks


class Sums:
    """Named float64 sums on one device, added up over all ranks when they are read."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.values = torch.zeros(len(self.names), dtype=torch.float64)

    def reset(self) -> None:
        """Start at zero."""
        self.values.zero_()

    def to(self, device: torch.device | str) -> None:
        """Sum on another device."""
        self.values = self.values.to(device)

    def add(self, name: str, value: Tensor | float) -> None:
        """Add a scalar."""
        self.values[self.names.index(name)] += value

    def read(self) -> dict[str, float]:
        """The sums over all ranks. Every rank must call it."""
        return dict(zip(self.names, sum_over_ranks(self.values).tolist(), strict=True))
