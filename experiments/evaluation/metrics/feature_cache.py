"""Feature networks and features of real images, shared by subjects that are evaluated on the same images."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from experiments.evaluation.metrics.metric import Metric
from experiments.evaluation.results import Skipped
from tokenizer.weights import MissingWeightsError, find_weights, sha256

Value = TypeVar("Value")


class FeatureCache:
    """Loads each network once, and computes what depends on the images alone once a batch."""

    def __init__(self) -> None:
        self.networks: dict[str, nn.Module] = {}
        self.files: dict[str, str] = {}  # file name and first digits of the SHA-256, for cards
        self.failures: dict[str, Skipped] = {}
        self.images: Tensor | None = None
        self.values: dict[str, object] = {}

    def load(self, metric: type[Metric]) -> Skipped | None:
        """Load the network of a metric; the reason if that fails."""
        name = metric.network
        assert name is not None
        if name not in self.networks and name not in self.failures:
            try:
                file = find_weights(name)
                self.networks[name] = metric.load_network()
                self.files[name] = f"{file.name} {sha256(file)[:12]}"
            except MissingWeightsError as error:
                self.failures[name] = Skipped(str(error), error.name)
            except ValueError as error:
                self.failures[name] = Skipped(str(error))
        return self.failures.get(name)

    def network(self, name: str, device: torch.device) -> nn.Module:
        """A network on a device."""
        return self.networks[name].to(device)

    def of_images(self, images: Tensor, name: str, compute: Callable[[], Value]) -> Value:
        """A value that depends on a batch of images alone, computed for the first subject that asks.

        Args:
            images: the batch; the same object for all subjects.
            name: of the value.
            compute: computes it.
        """
        if images is not self.images:
            self.images, self.values = images, {}
        if name not in self.values:
            self.values[name] = compute()
        return self.values[name]  # type: ignore[return-value]

    def reset(self) -> None:
        """Forget the images."""
        self.images, self.values = None, {}
