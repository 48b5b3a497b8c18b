"""Metrics of generated digits. Imports no torch.

Every number `..._real` is that of the held-out digits themselves, as a yardstick.
"""

from typing import TYPE_CHECKING, Any

from experiments.evaluation.cards import library
from experiments.evaluation.metrics.metric import Metric, RunningSums

if TYPE_CHECKING:
    from experiments.evaluation.metrics.digits_classifier import DigitsClassifier

SIDE = 8  # pixels
HIDDEN = 64  # units of the classifier
SEED = 0  # of the classifier
PERCENTILE = 1  # of the distances of held-out digits: nearer samples are copies


class DigitsSums(RunningSums):
    """Pixels and labels of all samples, on the CPU. For one process.

    Attributes, by digits: `samples`, `held-out` and `training`:
        accuracy: share of images with the right class.
        moments: mean and covariance of the features.
        distances: (n,) to the nearest training digit.
    """

    def __init__(self, context: Any) -> None:
        super().__init__({})
        self.classifier: DigitsClassifier = context.classifier
        self.reset()

    def reset(self) -> None:
        self.pixels: list[Any] = []
        self.labels: list[Any] = []

    def update(self, batch: Any) -> None:
        from experiments.evaluation.metrics.digits_classifier import shrink

        self.pixels.append(shrink(batch.images))
        self.labels.append(batch.labels.cpu().numpy())

    def join(self) -> None:
        import numpy as np

        from experiments.evaluation.metrics.frechet import moments_of

        classifier, pixels, labels = self.classifier, np.concatenate(self.pixels), np.concatenate(self.labels)
        right = float((classifier.predict(pixels) == labels).mean())
        self.accuracy = {"samples": right, "held-out": classifier.accuracy_on_held_out}
        self.moments = {"samples": moments_of(classifier.activations(pixels)), **classifier.moments}
        self.distances = {"samples": classifier.distances(pixels), "held-out": classifier.held_out_distances}


class DigitsMetric(Metric):
    """A number of generated digits."""

    resize = f"mean of areas to {SIDE} x {SIDE} gray pixels"
    dtype = "float64"
    fewest_images = 2
    shared = DigitsSums
    subject = "samples"  # or held-out digits
    split = "training"  # digits that they are compared with

    @classmethod
    def applies(cls, context: Any) -> bool:
        return context.classifier is not None

    def card(self, n: int) -> dict[str, Any]:
        classifier: DigitsClassifier = self.sums.classifier
        fields: dict[str, Any] = {"transform": classifier.transform, "reference": f"{classifier.reference}; {self.split} digits"}
        if self.subject == "held-out":
            fields |= {"n": len(classifier.held_out), "subject": "held-out digits", "guidance": None}
        return {**super().card(n), **fields}


class ClassifierMetric(DigitsMetric):
    """A number from the classifier."""

    def card(self, n: int) -> dict[str, Any]:
        weights = f"fitted with seed {SEED}, {self.sums.classifier.accuracy_on_held_out:.2%} on held-out digits"
        fields = {"backend": library("scikit-learn"), "network": f"perceptron, {HIDDEN} hidden units", "weights": weights}
        return {**super().card(n), **fields}


class ClassAccuracy(ClassifierMetric):
    """Share of samples with the class that was asked for."""

    key, label, unit, better = "class_accuracy", "right class", "%", "higher"
    aggregate = "share of images"
    split = "held-out"

    def compute(self) -> float:
        return float(self.sums.accuracy[self.subject])


class ClassAccuracyReal(ClassAccuracy):
    """Accuracy on held-out digits."""

    key, label, subject = "class_accuracy_real", "right class of real digits", "held-out"


class FrechetDigits(ClassifierMetric):
    """Distance of samples to held-out digits."""

    key, label, better = "frechet_digits", "Fréchet digits", "lower"
    aggregate = "covariances of all images"
    split = "held-out"

    def compute(self) -> float:
        from experiments.evaluation.metrics.frechet import frechet_distance

        return frechet_distance(self.sums.moments[self.split], self.sums.moments[self.subject])

    def card(self, n: int) -> dict[str, Any]:
        is_singular = n <= HIDDEN and self.subject == "samples"
        singular = f", singular: no more images than the {HIDDEN} features" if is_singular else ""
        return {**super().card(n), "aggregate": f"{self.aggregate}{singular}"}


class FrechetDigitsTrain(FrechetDigits):
    """Distance of samples to training digits."""

    key, label, split = "frechet_digits_train", "Fréchet training digits", "training"


class FrechetDigitsReal(FrechetDigitsTrain):
    """Distance of held-out digits to training digits."""

    key, label, subject = "frechet_digits_real", "Fréchet real digits", "held-out"


class DistanceMetric(DigitsMetric):
    """A number from distances to the nearest training digit."""

    def card(self, n: int) -> dict[str, Any]:
        fields = super().card(n)
        return {**fields, "reference": f"{fields['reference']}{', decoded' * (self.sums.classifier.decoded is not None)}"}


class NearestDigit(DistanceMetric):
    """Median distance of samples."""

    key, label = "nearest_digit", "nearest digit"
    aggregate = "median over images"

    def compute(self) -> float:
        import numpy as np

        return float(np.median(self.sums.distances[self.subject]))


class NearestDigitReal(NearestDigit):
    """Median distance of held-out digits."""

    key, label, subject = "nearest_digit_real", "nearest digit of real digits", "held-out"


class ShareCopied(DistanceMetric):
    """Share of samples that are nearer to a training digit than nearly all held-out digits are."""

    key, label, unit, better = "share_copied", "copied", "%", "lower"
    aggregate = f"share of images nearer to a training digit than percentile {PERCENTILE} of the held-out digits"

    def compute(self) -> float:
        import numpy as np

        limit = float(np.percentile(self.sums.distances["held-out"].numpy(), PERCENTILE))
        return float((self.sums.distances["samples"] < limit).double().mean())
