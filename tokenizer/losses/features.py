"""Distance between features of a pretrained network: DINOv2's class token, or logits of ResNet-50 or VGG-16.

Source: GSQ, Wang et al. 2024, arXiv:2412.02632 table 4, which compares these with LPIPS as perceptual losses.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.layers.checks import require_one_of
from tokenizer.layers.feature_network import FeatureNetwork
from tokenizer.layers.frozen import Frozen

Network = Literal["dinov2_vits14_reg", "resnet50_a1", "vgg16"]


class FeatureLoss(nn.Module):
    """Squared error of the features of a frozen network, which is not part of optimizers, checkpoints or weight averages.

    Args:
        network: name of the weights file.
        input_size: side in pixels that images are resized to by area averaging.

    Raises:
        ValueError: an unknown network, an invalid size, or a weights file that is damaged or of a different network.
        MissingWeightsError: the network's weights are not on this machine.
    """

    def __init__(self, network: Network, input_size: int) -> None:
        super().__init__()
        require_one_of("loss.image.perceptual.network", network, get_args(Network))
        key = "loss.image.perceptual.input_size"
        self.features = Frozen(FeatureNetwork(network, input_size, key, without="loss.weights.perceptual=0"))

    def forward(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Mean over images and features, from two (B, 3, H, W) in [-1, 1]. `images` receive no gradient."""
        with torch.no_grad():
            target: Tensor = self.features(images / 2 + 0.5)
        features: Tensor = self.features(reconstruction / 2 + 0.5)
        return F.mse_loss(features.float(), target.float())
