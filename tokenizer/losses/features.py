"""Distance between what a published network says of two images: DINOv2's class token, ResNet-50's or VGG-16's logits.

Source: GSQ, Wang et al. 2024, arXiv:2412.02632 table 4, which compares these with LPIPS as perceptual losses.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.layers.checks import require_one_of
from tokenizer.layers.feature_network import NETWORKS, FeatureNetwork
from tokenizer.layers.frozen import Frozen


class FeatureLoss(nn.Module):
    """Squared error of a frozen network's answers, which no optimizer, checkpoint or average of weights sees."""

    def __init__(self, network: Literal["dinov2_vits14_reg", "resnet50_a1", "vgg16"], input_size: int) -> None:
        """Load the network.

        Args:
            network: also the name of the file of weights.
            input_size: pixels a side that images are resized to by averaging areas.

        Raises:
            ValueError: an unknown network, a size that does not fit it, or a file of weights that is damaged or of another network.
            MissingWeightsError: the network's weights are not on this machine.
        """
        super().__init__()
        require_one_of("loss.perceptual.network", network, NETWORKS)
        key = "loss.perceptual.input_size"
        self.features = Frozen(FeatureNetwork(network, input_size, key, without="loss.weights.perceptual=0"))

    def forward(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Two (B, 3, H, W) in [-1, 1] to a scalar, the mean over images and features. `images` get no gradient."""
        with torch.no_grad():
            wanted: Tensor = self.features(images / 2 + 0.5)
        own: Tensor = self.features(reconstruction / 2 + 0.5)
        return F.mse_loss(own.float(), wanted.float())
