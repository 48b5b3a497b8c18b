"""LPIPS: distance between features of a classifier, calibrated on human ratings.

Paper: Zhang et al. 2018, arXiv:1801.03924, version 0.1. Layers and linear weights are those of the `lpips` package, the classifier's
weights those of torchvision's file, which is never downloaded here.
"""

import warnings
from pathlib import Path
from typing import Literal

import lpips
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.layers.checks import require_one_of
from tokenizer.layers.frozen import Frozen
from tokenizer.weights import reading_weights

LINEAR_WEIGHTS = {"vgg16": "vgg.pth", "alexnet": "alex.pth"}


class LPIPSLoss(nn.Module):
    """Perceptual distance by a frozen network, which is not part of optimizers, checkpoints or weight averages.

    Args:
        network: name of the weights file; vgg16 is usual for training losses, alexnet for metrics.
        input_range: "symmetric" uses images in [-1, 1], as the network's scaling expects; "unit" uses [0, 1], as the released code of GSQ.

    Raises:
        ValueError: an unknown network or range, or a weights file that is damaged or of a different network.
        MissingWeightsError: the classifier's weights are not on this machine.
    """

    def __init__(self, network: Literal["vgg16", "alexnet"], input_range: Literal["symmetric", "unit"]) -> None:
        super().__init__()
        require_one_of("loss.image.perceptual.network", network, LINEAR_WEIGHTS)
        require_one_of("loss.image.perceptual.input_range", input_range, ("symmetric", "unit"))
        self.input_range = input_range
        with reading_weights(network, without="loss.weights.perceptual=0") as path:
            self.distance = Frozen(_Distance(network, path))

    def forward(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Mean over images, from two (B, 3, H, W) in [-1, 1]. `images` receive no gradient."""
        if self.input_range == "unit":
            reconstruction, images = reconstruction / 2 + 0.5, images / 2 + 0.5
        distance: Tensor = self.distance(reconstruction, images)
        return distance


class _Distance(nn.Module):
    """LPIPS of two batches: squared differences of unit vectors at five depths, weighted by channel."""

    shift: Tensor
    scale: Tensor

    def __init__(self, network: Literal["vgg16", "alexnet"], weights: Path) -> None:
        super().__init__()
        trunks = {"vgg16": lpips.pretrained_networks.vgg16, "alexnet": lpips.pretrained_networks.alexnet}
        with torch.device("meta"), warnings.catch_warnings():  # the package uses deprecated arguments of torchvision
            warnings.simplefilter("ignore")
            self.trunk = trunks[network](pretrained=False)
        published = torch.load(weights, map_location="cpu", weights_only=True)
        # Names of layers have their number in the classifier in the file, and stage and number in the trunk.
        names = {f"features.{name.split('.', 1)[1]}": name for name in self.trunk.state_dict()}
        features = {name: tensor for name, tensor in published.items() if not name.startswith("classifier.")}
        self.trunk.load_state_dict({names.get(name, name): tensor for name, tensor in features.items()}, assign=True)
        linear = Path(lpips.__file__).parent / "weights" / "v0.1" / LINEAR_WEIGHTS[network]
        heads = torch.load(linear, map_location="cpu", weights_only=True)
        for tap, name in enumerate(sorted(heads)):
            self.register_buffer(f"head{tap}", heads[name].flatten()[:, None, None])
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188], device="cpu")[:, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450], device="cpu")[:, None, None])

    def forward(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        with torch.no_grad():
            target = self.unit_features(images)
        pairs = zip(self.unit_features(reconstruction), target, strict=True)
        taps = [(self.get_buffer(f"head{tap}") * (one - other).square()).sum(1).mean() for tap, (one, other) in enumerate(pairs)]
        return torch.stack(taps).sum()

    def unit_features(self, images: Tensor) -> list[Tensor]:
        """Five feature maps of the trunk, with a vector of length 1 in each cell."""
        scaled = ((images - self.shift) / self.scale).to(next(self.trunk.parameters()).dtype)
        return [F.normalize(features.float(), dim=1, eps=1e-10) for features in self.trunk(scaled)]
