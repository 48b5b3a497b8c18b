"""Bases of metrics from Inception features, and of metrics beside a reference. Imports no torch."""

from typing import TYPE_CHECKING, Any

from experiments.evaluation.metrics.metric import Metric
from experiments.evaluation.results import Skipped

if TYPE_CHECKING:
    import torch
    from torch import nn

    from experiments.evaluation.metrics.inception import FeatureExtractor

FEATURES = 2048
CLASSES = 1008
RESIZE = "TensorFlow 1 bilinear to 299, uint8 by rounding"


class InceptionMetric(Metric):
    """A number from Inception features."""

    backend, network, resize = "torch-fidelity", "inception", RESIZE

    @classmethod
    def load_network(cls) -> "nn.Module":
        from experiments.evaluation.metrics.inception import load_inception

        return load_inception()

    @classmethod
    def load_extractor(cls, device: "torch.device") -> "FeatureExtractor":
        from experiments.evaluation.metrics.inception import Inception

        return Inception(device)


class ReferenceMetric(Metric):
    """A number of samples beside reference statistics by the same network."""

    @classmethod
    def why_absent(cls, context: Any) -> Skipped | None:
        missing = super().why_absent(context)
        reference = context.references.get(cls.network, Skipped("there are no reference statistics"))
        return reference if missing is None and isinstance(reference, Skipped) else missing
