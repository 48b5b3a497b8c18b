"""Inception's features; Fréchet distance and inception score from their running sums.

Papers: Heusel et al. 2017, arXiv:1706.08500 (distance); Salimans et al. 2016, arXiv:1606.03498 (score); Nash et al. 2021,
arXiv:2103.03841 (distance of spatial features). The network is the one of the TensorFlow release with its own resize to 299 pixels, as
torch-fidelity ports it, in fp32 without TF32. Sums and covariances are float64.
Deviation: the score's ten splits are interleaved instead of shuffled, so that no feature needs to be kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from experiments.evaluation.cards import library
from experiments.evaluation.metrics.features import Features
from tokenizer.layers.distributed import sum_over_ranks
from tokenizer.weights import FILES, find_weights, reading_weights, sha256

FEATURES = 2048
CLASSES = 1008
SPLITS = 10
IMAGES_PER_PASS = 64
RESIZE = "TensorFlow 1 bilinear to 299, uint8 by truncation"
SPATIAL_BRANCH = "Mixed_6d.branch1x1"  # TensorFlow's `mixed_6/conv`, after its ReLU: 17 x 17 cells
SPATIAL_CHANNELS, SPATIAL_CELLS = 7, 17 * 17


def to_uint8(images: Tensor) -> Tensor:
    """Images in [0, 1] to whole numbers in [0, 255] by truncation.

    A pixel that was a whole number before it was normalised may lie a rounding error below it; 1/1000 keeps it.
    """
    return (images * 255 + 1e-3).to(torch.uint8)


def load_inception() -> nn.Module:
    """The Inception network of torch-fidelity's file, frozen; uint8 (B, 3, H, W) to features and logits without bias.

    The random numbers of the process are left as they were: an evaluation must not change the training around it.

    Raises:
        MissingWeightsError: the file is not on this machine.
        ValueError: it is damaged or of another network.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with reading_weights("inception") as path, torch.random.fork_rng(devices=[]):
        torch.load(path, map_location="cpu", weights_only=True)  # the library would run a program that a file may hide
        network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path))
    frozen: nn.Module = network.to(memory_format=torch.channels_last).requires_grad_(False).eval()
    return frozen


@contextmanager
def full_precision_convolutions() -> Iterator[None]:
    """Convolutions on an accelerator in plain fp32, whatever the run allows elsewhere."""
    settings: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = settings.fp32_precision
    settings.fp32_precision = "ieee"
    try:
        yield
    finally:
        settings.fp32_precision = before


def inception_features(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) in [0, 1] to features (B, 2048) and logits (B, 1008), both fp32."""
    with full_precision_convolutions():
        passes = [network(chunk) for chunk in torch.split(to_uint8(images), IMAGES_PER_PASS)]
    return torch.cat([features for features, _ in passes]), torch.cat([logits for _, logits in passes])


class Inception:
    """Inception as a `FeatureExtractor`: pooled features, unbiased logits, and the first seven channels of a 17 x 17 map.

    The map is laid out row by row with channels last, the order of the reference statistics of ADM (arXiv:2105.05233).
    """

    name, resize = "inception", RESIZE
    width, spatial_width, classes = FEATURES, SPATIAL_CHANNELS * SPATIAL_CELLS, CLASSES

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """
        Raises:
            MissingWeightsError: the file is not on this machine.
            ValueError: it is damaged or of another network.
        """
        self.device = torch.device(device)
        self.network = load_inception().to(self.device)
        self.backend = library("torch-fidelity")
        self.weights = f"{FILES['inception'].filename} {sha256(find_weights('inception'))[:12]}"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """Features of (B, 3, H, W) in [0, 1], in fp32 whatever the precision around it."""
        maps: list[Tensor] = []
        branch = self.network.get_submodule(SPATIAL_BRANCH)
        hook = branch.register_forward_hook(lambda module, inputs, output: maps.append(output[:, :SPATIAL_CHANNELS]))
        try:
            with torch.autocast(self.device.type, enabled=False):
                pool, logits = inception_features(self.network, images.to(self.device).float())
        finally:
            hook.remove()
        return Features(pool, torch.cat(maps).permute(0, 2, 3, 1).flatten(1), logits)


class FeatureMoments:
    """Number, sum and summed outer products of features, in float64."""

    def __init__(self, width: int = FEATURES) -> None:
        self.count = torch.zeros((), dtype=torch.float64)
        self.sum = torch.zeros(width, dtype=torch.float64)
        self.outer = torch.zeros(width, width, dtype=torch.float64)

    def reset(self) -> None:
        """Forget all."""
        for total in (self.count, self.sum, self.outer):
            total.zero_()

    def to(self, device: torch.device | str) -> None:
        """Sum on another device."""
        self.count, self.sum, self.outer = self.count.to(device), self.sum.to(device), self.outer.to(device)

    def update(self, features: Tensor) -> None:
        """Add (B, width) features."""
        features = features.double()
        self.count += len(features)
        self.sum += features.sum(0)
        self.outer.addmm_(features.T, features)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean (width,) and unbiased covariance (width, width) over all ranks. Every rank must call it; needs two features."""
        count, total, outer = sum_over_ranks(self.count), sum_over_ranks(self.sum), sum_over_ranks(self.outer)
        mean = total / count
        return mean, (outer - count * torch.outer(mean, mean)) / (count - 1)


def frechet_distance(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> float:
    """Squared Fréchet distance of two normal distributions, each a mean (F,) and a covariance (F, F) in float64.

    The trace of the root of A B is the sum of the roots of the eigenvalues of R^T B R, where R R^T = A: that matrix is symmetric,
    so its eigenvalues are real and cheap. Fewer images than features make A singular; then R comes from A's own eigenvectors.
    """
    (mean_a, covariance_a), (mean_b, covariance_b) = one, other
    root, failed = torch.linalg.cholesky_ex(covariance_a)
    if failed:
        squares, axes = torch.linalg.eigh(covariance_a)
        root = axes * squares.clamp(min=0).sqrt()
    eigenvalues = torch.linalg.eigvalsh(root.T @ covariance_b @ root)
    trace = covariance_a.trace() + covariance_b.trace() - 2 * eigenvalues.clamp(min=0).sqrt().sum()
    return float((mean_a - mean_b).square().sum() + trace)


class InceptionScore:
    """exp of the mean divergence between an image's classes and those of its split, averaged over ten splits."""

    def __init__(self, classes: int = CLASSES) -> None:
        self.seen = 0
        self.counts = torch.zeros(SPLITS, dtype=torch.float64)
        self.negentropy = torch.zeros(SPLITS, dtype=torch.float64)
        self.shares = torch.zeros(SPLITS, classes, dtype=torch.float64)

    def reset(self) -> None:
        """Forget all."""
        self.seen = 0
        for total in (self.counts, self.negentropy, self.shares):
            total.zero_()

    def to(self, device: torch.device | str) -> None:
        """Sum on another device."""
        self.counts, self.negentropy, self.shares = self.counts.to(device), self.negentropy.to(device), self.shares.to(device)

    def update(self, logits: Tensor) -> None:
        """Add (B, classes) logits; image i of this process goes to split i modulo 10."""
        split = (torch.arange(len(logits), device=logits.device) + self.seen) % SPLITS
        self.seen += len(logits)
        share = logits.double().softmax(1)
        self.counts.index_add_(0, split, torch.ones_like(share[:, 0]))
        self.negentropy.index_add_(0, split, -torch.special.entr(share).sum(1))
        self.shares.index_add_(0, split, share)

    def compute(self) -> float:
        """The score over all ranks. Every rank must call it; needs an image."""
        counts, negentropy, shares = sum_over_ranks(self.counts), sum_over_ranks(self.negentropy), sum_over_ranks(self.shares)
        used = counts > 0  # many processes with few images each may leave a split empty
        counts, negentropy, shares = counts[used], negentropy[used], shares[used]
        divergence = negentropy / counts + torch.special.entr(shares / counts.unsqueeze(1)).sum(1)
        return float(divergence.exp().mean())
