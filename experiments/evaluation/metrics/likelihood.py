"""Likelihood of tokens under a generator. Imports no torch."""

import math
from typing import Any

from experiments.evaluation.metrics.metric import ImageMean


class NLL(ImageMean):
    """Nats of a token, summed over its sub-tokens."""

    key, label, better = "nll", "nats / token", "lower"
    aggregate = "mean over tokens"
    dtype = "float32"
    in_terminal = True

    def sum_of(self, batch: Any) -> Any:
        return batch.nats

    def compute(self) -> float:
        return super().compute() / float(self.context.num_tokens)

    def card(self, n: int) -> dict[str, Any]:
        """Numbers of a token are comparable for one tokenizer only."""
        return {**super().card(n), "network": "tokenizer", "weights": self.context.tokenizer}


class LikelihoodBitsPerPixel(ImageMean):
    """Bits of all tokens of an image under the generator, over its pixels."""

    key, label, better = "bits_per_pixel", "bits / pixel", "lower"
    dtype = "float32"
    in_terminal = True

    def sum_of(self, batch: Any) -> Any:
        return batch.nats

    def compute(self) -> float:
        return super().compute() / math.log(2) / float(self.context.image_size**2)
