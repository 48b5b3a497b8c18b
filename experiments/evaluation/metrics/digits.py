"""A judge of generated digits that needs no download: a small classifier, and the nearest real digits.

Everything is seen as 8 x 8 grey pixels, the digits' own size. A tokenizer blurs what it decodes, copies too: so where there is one,
nearness is measured among digits that all went through it. The classifier is scikit-learn's perceptron with one hidden layer, whose
activations are the features of a Fréchet distance (Heusel et al. 2017, arXiv:1706.08500, with this network in Inception's place).
It also sees every training digit moved by half a pixel to each side; it never sees the held-out ones. Fitting takes about a second.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from experiments.data.digits import DigitImages, Digits
from experiments.evaluation.cards import Card, library
from experiments.evaluation.metrics.inception import FeatureMoments, frechet_distance
from experiments.evaluation.results import Results, Skipped

SIDE = 8
HIDDEN = 64
SEED = 0
PERCENTILE = 1
ROWS = 64  # images that are reconstructed at a time
Pixels = NDArray[np.float64]
Reconstruct = Callable[[Tensor], Tensor]  # (B, 3, H, W) in [0, 1] to the same shape and range


def shrink(images: Tensor) -> Pixels:
    """(B, 3, H, W) in [0, 1], sides of at least 8, to (B, 64) grey pixels in [0, 1], each the mean of its area."""
    grey = images.detach().double().cpu().mean(1, keepdim=True)
    return np.asarray(interpolate(grey, size=(SIDE, SIDE), mode="area").flatten(1).numpy())


def moved(pixels: Pixels) -> Pixels:
    """(5n, 64): the digits as they are, then all of them half a pixel further left, right, up and down."""
    padded = np.pad(pixels.reshape(-1, SIDE, SIDE), ((0, 0), (1, 1), (1, 1)))
    middle = slice(1, -1)
    neighbours = (padded[:, middle, 2:], padded[:, middle, :-2], padded[:, 2:, middle], padded[:, :-2, middle])
    whole = padded[:, middle, middle]
    return np.concatenate([whole, *((whole + neighbour) / 2 for neighbour in neighbours)]).reshape(-1, SIDE * SIDE)


class DigitsJudge:
    """Says which digit a picture shows, how far pictures are from real ones, and whether they are copies.

    Attributes:
        accuracy_on_held_out: of the classifier, in [0, 1].
    """

    def __init__(
        self,
        train: Pixels,
        train_labels: NDArray[np.int64],
        held_out: Pixels,
        held_out_labels: NDArray[np.int64],
        transform: str,
        reference: str,
        decoded: tuple[Pixels, Pixels] | None = None,
    ) -> None:
        """Fit the classifier.

        Args:
            train: (n, 64) from `shrink`, the digits that generators learn from.
            train_labels: (n,) in 0 .. 9.
            held_out: (m, 64), digits that nobody learns from.
            held_out_labels: (m,).
            transform: how the pictures were made, for the cards.
            reference: which digits are held out, for the cards.
            decoded: `train` and `held_out` as a tokenizer reconstructs them, among which neighbours are sought; None for themselves.
        """
        from sklearn.neural_network import MLPClassifier  # takes a second
        from threadpoolctl import threadpool_limits

        self.train, self.held_out = train, held_out
        self.decoded = decoded
        self.known, self.unknown = decoded or (train, held_out)
        self.transform, self.reference = transform, reference
        # Fitted whole, not in random parts: the same on every call. It ends by the tolerance, long before max_iter.
        self.classifier = MLPClassifier((HIDDEN,), solver="lbfgs", alpha=1.0, tol=3e-4, max_iter=2000, random_state=SEED)
        with threadpool_limits(1):  # small products: several threads gain nothing, and on busy cores wait for one another
            self.classifier.fit(moved(train), np.tile(train_labels, 5))
        self.accuracy_on_held_out = float((self.classifier.predict(held_out) == held_out_labels).mean())

    def predict(self, images: Tensor) -> Tensor:
        """(B,) int64, the digit in each of (B, 3, H, W) images in [0, 1]."""
        return torch.from_numpy(self.classifier.predict(shrink(images)))

    def class_accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of images whose digit is the label."""
        return float((self.predict(images) == labels.cpu()).double().mean())

    def features(self, images: Tensor) -> Tensor:
        """(B, 64) float64 activations of the hidden layer."""
        return self.activations(shrink(images))

    def activations(self, pixels: Pixels) -> Tensor:
        """(B, 64) float64 of (B, 64) pixels."""
        return torch.from_numpy(np.maximum(pixels @ self.classifier.coefs_[0] + self.classifier.intercepts_[0], 0))

    def nearest_neighbours(self, images: Tensor) -> Tensor:
        """(B,) Euclidean distance of each image to the nearest training digit (decoded), in 64 grey pixels in [0, 1]."""
        return self.distances(shrink(images))

    def distances(self, pixels: Pixels) -> Tensor:
        """(B,) of (B, 64) pixels to the nearest training digit."""
        real = torch.from_numpy(self.known)
        parts = torch.split(torch.from_numpy(pixels), 1024)
        return torch.cat([torch.cdist(part, real, compute_mode="donot_use_mm_for_euclid_dist").amin(1) for part in parts])

    @functools.cached_property
    def held_out_distances(self) -> Tensor:
        """(m,) of the held-out digits to the nearest training digit: how near pictures come that are no copies."""
        return self.distances(self.unknown)

    @functools.cached_property
    def moments(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and covariance of the features of the `held_out` and the `train` digits."""
        return {"held_out": _moments(self.activations(self.held_out)), "train": _moments(self.activations(self.train))}

    def metrics(self, image_size: int, subject: str, seed: int, guidance: float | str | None) -> "DigitsMetrics":
        """New running metrics; the arguments are for the cards, see `Card`."""
        return DigitsMetrics(self, {"image_size": image_size, "subject": subject, "seed": seed, "guidance": guidance})


def digits_judge(source: Digits, reconstruct: Reconstruct | None = None) -> DigitsJudge:
    """A classifier fitted to the training digits of a source.

    Args:
        source: the digits.
        reconstruct: reconstruction by the tokenizer whose samples are evaluated, so that copies are recognized; None for the digits
            themselves.
    """

    def pixels(images: DigitImages, change: Reconstruct) -> Pixels:
        rows = torch.split(torch.arange(len(images)), ROWS)
        return np.concatenate([shrink(change(torch.stack([images[int(row)].image for row in part]) / 255)) for part in rows])

    train, held_out = (pixels(images, lambda same: same) for images in (source.train, source.val))
    decoded = (pixels(source.train, reconstruct), pixels(source.val, reconstruct)) if reconstruct else None
    labels = [images.labels[images.rows] for images in (source.train, source.val)]
    return DigitsJudge(train, labels[0], held_out, labels[1], source.transform, source.reference, decoded)


class DigitsMetrics:
    """Running metrics of generated digits; every number `..._real` is what the held-out digits themselves get, as a yardstick."""

    def __init__(self, judge: DigitsJudge, card_fields: dict[str, Any]) -> None:
        self.judge = judge
        self.card_fields = card_fields
        self.pixels: list[Pixels] = []
        self.labels: list[NDArray[np.int64]] = []

    def update(self, images: Tensor, labels: Tensor) -> None:
        """Add (B, 3, H, W) images in [0, 1] with the (B,) digits that were asked for."""
        self.pixels.append(shrink(images))
        self.labels.append(labels.cpu().numpy())

    def compute(self) -> Results:
        """All metrics of the images so far."""
        judge, n = self.judge, sum(map(len, self.pixels))
        if n < 2:
            return Results(skipped={name: Skipped(f"{name} needs at least 2 images, {n} were generated") for name in AGGREGATES})
        pixels, labels = np.concatenate(self.pixels), np.concatenate(self.labels)
        generated, distances = _moments(judge.activations(pixels)), judge.distances(pixels)
        limit = float(np.percentile(judge.held_out_distances.numpy(), PERCENTILE))
        values = {
            "class_accuracy": float((judge.classifier.predict(pixels) == labels).mean()),
            "class_accuracy_real": judge.accuracy_on_held_out,
            "frechet_digits": frechet_distance(judge.moments["held_out"], generated),
            "frechet_digits_train": frechet_distance(judge.moments["train"], generated),
            "frechet_digits_real": frechet_distance(judge.moments["train"], judge.moments["held_out"]),
            "nearest_digit": float(np.median(distances)),
            "nearest_digit_real": float(np.median(judge.held_out_distances)),
            "share_copied": float((distances < limit).double().mean()),
        }
        return Results(values, {name: self._card(name, n) for name in values})

    def _card(self, metric: str, n: int) -> dict[str, Any]:
        to_training = metric.startswith(("nearest", "share", "frechet_digits_"))
        decoded = metric.startswith(("nearest", "share")) and self.judge.decoded is not None
        by_classifier = metric.startswith(("class", "frechet"))
        real = metric.endswith("_real")
        return Card(
            metric=metric,
            backend=library("scikit-learn") if by_classifier else "tessera",
            network=f"perceptron, {HIDDEN} hidden units" if by_classifier else None,
            weights=f"fitted with seed {SEED}, {self.judge.accuracy_on_held_out:.2%} on held-out digits" if by_classifier else None,
            resize=f"mean of areas to {SIDE} x {SIDE} grey pixels",
            transform=self.judge.transform,
            reference=f"{self.judge.reference}; {'training' if to_training else 'held-out'} digits{', decoded' * decoded}",
            n=len(self.judge.held_out) if real else n,
            aggregate=AGGREGATES[metric]
            + (f", singular: no more images than the {HIDDEN} features" if metric in SINGULAR and n <= HIDDEN else ""),
            dtype="float64",
            losses=None,
            **(self.card_fields | ({"subject": "held-out digits", "guidance": None} if real else {})),
        ).to_dict()


SINGULAR = ("frechet_digits", "frechet_digits_train")
AGGREGATES = {
    "class_accuracy": "share of images",
    "class_accuracy_real": "share of images",
    "frechet_digits": "covariances of all images",
    "frechet_digits_train": "covariances of all images",
    "frechet_digits_real": "covariances of all images",
    "nearest_digit": "median over images",
    "nearest_digit_real": "median over images",
    "share_copied": f"share of images nearer to a training digit than percentile {PERCENTILE} of the held-out digits",
}


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    sums = FeatureMoments(features.shape[1])
    sums.update(features)
    return sums.compute()
