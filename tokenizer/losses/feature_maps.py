"""Perceptual distance of feature maps of a classifier at several depths: LPIPS without learned weights of the channels.

Paper: Zhang et al. 2018, arXiv:1801.03924 section 3, whose distances without calibration are nearly as close to human ratings; the
network is EfficientNet-Lite0, Tan and Le 2019, arXiv:1905.11946, instead of VGG-16.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.layers.checks import ArgumentError, require_one_of
from tokenizer.layers.feature_network import FeatureNetwork
from tokenizer.layers.frozen import Frozen

Network = Literal["lite0"]
STAGES = 5  # of the network


class FeatureMapLoss(nn.Module):
    """Squared differences of unit vectors in all cells of the maps of a frozen network, see `FeatureNetwork.maps`.

    The network is not part of optimizers, checkpoints or weight averages.

    Args:
        network: name of the weights file.
        input_size: side in pixels that images are resized to by area averaging.
        stages: numbers of the maps, 0 to 4, in ascending order; the sides of map 0 are half those of the image, those of map 4 one
            thirty-second.

    Raises:
        ValueError: an unknown network, an invalid size, invalid stages, or a weights file that is damaged or of a different network.
        MissingWeightsError: the network's weights are not on this machine.
    """

    def __init__(self, network: Network, input_size: int, stages: list[int]) -> None:
        super().__init__()
        require_one_of("loss.image.perceptual.network", network, get_args(Network))
        if not stages or stages != sorted(set(stages) & set(range(STAGES))):
            raise ArgumentError("loss.image.perceptual.stages", list(stages), f"ascending numbers from 0 to {STAGES - 1}")
        self.stages = tuple(stages)
        key = "loss.image.perceptual.input_size"
        self.features = Frozen(FeatureNetwork(network, input_size, key, without="loss.weights.perceptual=0"))

    def forward(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Sum over stages of the mean over images and cells in fp32, from two (B, 3, H, W) in [-1, 1]. `images` receive no gradient."""
        with torch.no_grad():
            target = self._unit_maps(images)
        pairs = zip(self._unit_maps(reconstruction), target, strict=True)
        return torch.stack([(one - other).square().sum(1).mean() for one, other in pairs]).sum()

    def _unit_maps(self, images: Tensor) -> list[Tensor]:
        """Maps (B, C, h, w) with a vector of length 1 in each cell."""
        network: FeatureNetwork = self.features.network  # type: ignore[assignment]
        return [F.normalize(features.float(), dim=1, eps=1e-10) for features in network.maps(images / 2 + 0.5, self.stages)]
