"""What a collection of pictures may offer to judge samples of its own kind, beside Inception."""

from typing import Protocol

from torch import Tensor

from experiments.evaluation.results import Results


class LabelledMetrics(Protocol):
    """Running metrics of generated pictures with the classes that were asked for."""

    def update(self, images: Tensor, labels: Tensor) -> None:
        """Add (B, 3, H, W) images in [0, 1] with (B,) labels."""
        ...

    def compute(self) -> Results:
        """All metrics of the images so far."""
        ...


class Judge(Protocol):
    """Knows the real pictures."""

    def metrics(self, image_size: int, subject: str, seed: int, guidance: float | str | None) -> LabelledMetrics:
        """New running metrics; the arguments are for the cards, see `Card`."""
        ...
