"""Rate of a tokenizer: bits per token and per pixel. Imports no torch."""

import math
from typing import Any

from experiments.evaluation.metrics.metric import Metric


class BitsPerToken(Metric):
    """Bits of one token, known without an image."""

    key, label = "bits_per_token", "bits / token"
    aggregate = "constant"
    fewest_images = 0
    in_terminal = True

    def compute(self) -> float:
        return float(self.context.quantizer.bits_per_token)


class BitsPerPixel(Metric):
    """Bits of all tokens over all pixels; of merged tokens also those of the assignment, log2 N for each cell."""

    key, label = "bits_per_pixel", "bits / pixel"
    aggregate = "total bits over total pixels"
    in_terminal = True
    totals = ("tokens", "pixels", "assigned_cells", "assignment_bits")

    def update(self, batch: Any) -> None:
        images, num_tokens = batch.indices.shape[:2]
        self.add("tokens", images * num_tokens)
        self.add("pixels", images * batch.images.shape[2] * batch.images.shape[3])
        assignment = batch.layout.assignment
        if assignment is not None:
            self.add("assigned_cells", assignment.numel())
            self.add("assignment_bits", assignment.numel() * math.log2(num_tokens))

    def compute(self) -> float:
        bits = float(self.context.quantizer.bits_per_token) * self.total("tokens") + self.total("assignment_bits")
        return bits / self.total("pixels")

    def card(self, n: int) -> dict[str, Any]:
        """The aggregate names the assignment where its bits are counted."""
        counted = "total bits of tokens and assignment over total pixels" if self.total("assigned_cells") else self.aggregate
        return {**super().card(n), "aggregate": counted}
