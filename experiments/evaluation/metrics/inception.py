"""Features of images, by which two sets of images are compared, and the network that computes them.

The network is the one of the TensorFlow release with its own resize to 299 pixels, as torch-fidelity ports it, in fp32 without TF32.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from experiments.data.transforms import to_bytes
from experiments.evaluation.cards import library
from experiments.evaluation.metrics.inception_metric import CLASSES, FEATURES, RESIZE
from tokenizer.layers.precision import full_precision
from tokenizer.weights import FILES, find_weights, reading_weights, sha256

IMAGES_PER_PASS = 64
SPATIAL_BRANCH = "Mixed_6d.branch1x1"  # TensorFlow's `mixed_6/conv`, after its ReLU: 17 x 17 cells
SPATIAL_CHANNELS, SPATIAL_CELLS = 7, 17 * 17


@dataclass(frozen=True)
class Features:
    """Features of B images, all fp32."""

    pool: Tensor  # (B, F)
    spatial: Tensor | None = None  # (B, S) flattened feature map, None where the network has none
    logits: Tensor | None = None  # (B, classes), None where the network is no classifier


class FeatureExtractor(Protocol):
    """A frozen network."""

    name: str  # in cards
    backend: str  # its library with version, for cards
    weights: str  # file name and first digits of the SHA-256, for cards and for the names of its statistics
    resize: str  # how it resizes its input, for cards
    width: int  # F
    spatial_width: int  # S, 0 without spatial features
    classes: int  # 0 without logits
    device: torch.device  # of the network; its input is moved there

    def __call__(self, images: Tensor) -> Features:
        """Features of (B, 3, H, W) in [0, 1]."""
        ...


def to_unit(images: Tensor) -> Tensor:
    """Images nominally in [-1, 1] as fp32 in [0, 1], clamped."""
    return (images.float() * 0.5 + 0.5).clamp(0, 1)


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


def inception_features(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) in [0, 1] to features (B, 2048) and logits (B, 1008), both fp32."""
    with full_precision(images.device):
        passes = [network(chunk) for chunk in torch.split(to_bytes(images), IMAGES_PER_PASS)]
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
            pool, logits = inception_features(self.network, images.to(self.device).float())
        finally:
            hook.remove()
        return Features(pool, torch.cat(maps).permute(0, 2, 3, 1).flatten(1), logits)
