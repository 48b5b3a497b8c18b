"""A bounded random choice from a stream.

Source: Vitter 1985, Random sampling with a reservoir, algorithm R.
"""

import numpy as np
import torch
from torch import Tensor

SEED = 0


class Reservoir:
    """Stores at most `limit` rows of a stream, each row with the same probability; all of them, in order, while they fit.

    The choice depends on the rows' numbers alone: not on batches, not on the random numbers of the process.

    Args:
        limit: largest number of rows.
        width: row width; rows are stored on the CPU as fp32.
    """

    def __init__(self, limit: int, width: int) -> None:
        self.limit = limit
        self.storage = torch.empty(limit, width)  # memory is taken when a page is written
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        self.seen = 0
        self.random = np.random.default_rng(SEED)

    def update(self, rows: Tensor) -> None:
        """Offer (B, width) rows."""
        numbers = np.arange(self.seen, self.seen + len(rows))
        places = np.where(numbers < self.limit, numbers, self.random.integers(0, numbers + 1))
        self.seen += len(rows)
        last = {int(place): row for row, place in enumerate(places) if place < self.limit}  # a later row takes an earlier one's place
        self.storage[list(last)] = rows.float().cpu()[list(last.values())]

    @property
    def rows(self) -> Tensor:
        """(n, width) stored rows."""
        return self.storage[: min(self.seen, self.limit)]

    def __str__(self) -> str:
        count = len(self.rows)
        return f"{count}" if count == self.seen else f"{count} of {self.seen}, drawn with seed {SEED}"
