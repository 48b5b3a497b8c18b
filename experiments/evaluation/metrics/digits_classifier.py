"""A classifier of digits and distances to real digits: an evaluator of samples that needs no download.

All images are reduced to 8 x 8 gray pixels, the digits' own size. A tokenizer blurs decoded images, copies too: where there is one,
distances are measured among digits that all went through it. The classifier is scikit-learn's perceptron with one hidden layer, whose
activations are the features of a Fréchet distance (Heusel et al. 2017, arXiv:1706.08500, with this network in Inception's place).
It is trained on every training digit, also shifted by half a pixel to each side, and never on the held-out ones. Fitting takes a second.
"""

import functools
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from experiments.data.digits import DigitImages, Digits
from experiments.evaluation.metrics.digits import HIDDEN, SEED, SIDE
from experiments.evaluation.metrics.frechet import moments_of

ROWS = 64  # images that are reconstructed at a time
Pixels = NDArray[np.float64]
Reconstruct = Callable[[Tensor], Tensor]  # (B, 3, H, W) in [0, 1] to the same shape and range


def shrink(images: Tensor) -> Pixels:
    """(B, 3, H, W) in [0, 1], sides of at least 8, to (B, 64) gray pixels in [0, 1], each the mean of its area."""
    gray = images.detach().double().cpu().mean(1, keepdim=True)
    return np.asarray(interpolate(gray, size=(SIDE, SIDE), mode="area").flatten(1).numpy())


def shifted(pixels: Pixels) -> Pixels:
    """(5n, 64): the digits as they are, then all of them shifted by half a pixel left, right, up and down."""
    padded = np.pad(pixels.reshape(-1, SIDE, SIDE), ((0, 0), (1, 1), (1, 1)))
    middle = slice(1, -1)
    neighbors = (padded[:, middle, 2:], padded[:, middle, :-2], padded[:, 2:, middle], padded[:, :-2, middle])
    whole = padded[:, middle, middle]
    return np.concatenate([whole, *((whole + neighbor) / 2 for neighbor in neighbors)]).reshape(-1, SIDE * SIDE)


class DigitsClassifier:
    """The class of an image, its features, and its distance to real digits.

    Args:
        train: (n, 64) from `shrink`, the training digits of generators.
        train_labels: (n,) in 0 .. 9.
        held_out: (m, 64), digits that nothing is trained on.
        held_out_labels: (m,).
        transform: how the images were made, for the cards.
        reference: which digits are held out, for the cards.
        decoded: `train` and `held_out` as a tokenizer reconstructs them, for distances; None for the digits themselves.

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
        from sklearn.neural_network import MLPClassifier  # takes a second
        from threadpoolctl import threadpool_limits

        self.train, self.held_out = train, held_out
        self.decoded = decoded
        self.decoded_train, self.decoded_held_out = decoded or (train, held_out)
        self.transform, self.reference = transform, reference
        # Fitted on all digits at once: the same on every call. The tolerance ends it long before max_iter.
        self.perceptron = MLPClassifier((HIDDEN,), solver="lbfgs", alpha=1.0, tol=3e-4, max_iter=2000, random_state=SEED)
        with threadpool_limits(1):  # small products: threads only wait for one another
            self.perceptron.fit(shifted(train), np.tile(train_labels, 5))
        self.accuracy_on_held_out = float((self.predict(held_out) == held_out_labels).mean())

    def predict(self, pixels: Pixels) -> NDArray[np.int64]:
        """(B,) digit of each of (B, 64) pixels."""
        digits: NDArray[np.int64] = self.perceptron.predict(pixels)
        return digits

    def activations(self, pixels: Pixels) -> Tensor:
        """(B, 64) float64 activations of the hidden layer, of (B, 64) pixels."""
        return torch.from_numpy(np.maximum(pixels @ self.perceptron.coefs_[0] + self.perceptron.intercepts_[0], 0))

    def distances(self, pixels: Pixels) -> Tensor:
        """(B,) Euclidean distance of (B, 64) pixels to the nearest training digit (decoded)."""
        real = torch.from_numpy(self.decoded_train)
        parts = torch.split(torch.from_numpy(pixels), 1024)
        return torch.cat([torch.cdist(part, real, compute_mode="donot_use_mm_for_euclid_dist").amin(1) for part in parts])

    @functools.cached_property
    def held_out_distances(self) -> Tensor:
        """(m,) of the held-out digits to the nearest training digit: how near images come that are no copies."""
        return self.distances(self.decoded_held_out)

    @functools.cached_property
    def moments(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and covariance of the features of the digits."""
        return {"held-out": moments_of(self.activations(self.held_out)), "training": moments_of(self.activations(self.train))}


def digits_classifier(source: Digits, reconstruct: Reconstruct | None = None) -> DigitsClassifier:
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
    return DigitsClassifier(train, labels[0], held_out, labels[1], source.transform, source.reference, decoded)
