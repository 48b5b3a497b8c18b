"""Bases of metrics from Inception features. Imports no torch."""

from typing import TYPE_CHECKING, Any

from experiments.evaluation.metrics.metric import Metric
from experiments.evaluation.results import Skipped

if TYPE_CHECKING:
    from torch import nn

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


class ReferenceMetric(InceptionMetric):
    """A number of samples beside reference statistics."""

    @classmethod
    def why_absent(cls, context: Any) -> Skipped | None:
        missing = super().why_absent(context)
        return Skipped("there are no reference statistics") if missing is None and context.reference is None else missing
