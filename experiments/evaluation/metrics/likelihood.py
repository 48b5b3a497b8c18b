"""Likelihood of tokens under a generator. Imports no torch."""

import math
from typing import Any

from experiments.evaluation.metrics.metric import ImageMean


class NatsMean(ImageMean):
    """A number from the nats (B, N, S) of all sub-tokens."""

    better, dtype, in_terminal = "lower", "float32", True

    def sum_of(self, batch: Any) -> Any:
        import torch

        return batch.sum(dtype=torch.float64)


class NLL(NatsMean):
    """Nats of a token, summed over its sub-tokens."""

    key, label = "nll", "nats / token"
    aggregate = "mean over tokens"

    def compute(self) -> float:
        return super().compute() / float(self.context.num_tokens)

    def card(self, n: int) -> dict[str, Any]:
        """Numbers of a token are comparable for one tokenizer only."""
        return {**super().card(n), "network": "tokenizer", "weights": self.context.tokenizer}


class LikelihoodBitsPerPixel(NatsMean):
    """Bits of all tokens of an image under the generator, over its pixels."""

    key, label = "bits_per_pixel", "bits / pixel"

    def compute(self) -> float:
        return super().compute() / math.log(2) / float(self.context.image_size**2)
