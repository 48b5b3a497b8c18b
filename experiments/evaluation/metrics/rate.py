"""Rate of a tokenizer: bits per token and per pixel. Imports no torch."""

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
    """Bits of all tokens over all pixels."""

    key, label = "bits_per_pixel", "bits / pixel"
    aggregate = "total bits over total pixels"
    in_terminal = True
    totals = ("tokens", "pixels")

    def update(self, batch: Any) -> None:
        self.add("tokens", batch.indices.shape[0] * batch.indices.shape[1])
        self.add("pixels", batch.images.shape[0] * batch.images.shape[2] * batch.images.shape[3])

    def compute(self) -> float:
        return float(self.context.quantizer.bits_per_token) * self.total("tokens") / self.total("pixels")
