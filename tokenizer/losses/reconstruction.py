"""Distances between pixels."""

import torch.nn.functional as F
from torch import Tensor, nn


class L1Loss(nn.Module):
    """Mean absolute difference."""

    def forward(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Two (B, 3, H, W) in [-1, 1] to a scalar: the mean over all elements, in fp32."""
        return F.l1_loss(reconstruction.float(), images.float())


class L2Loss(nn.Module):
    """Mean squared difference."""

    def forward(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Two (B, 3, H, W) in [-1, 1] to a scalar: the mean over all elements, in fp32."""
        return F.mse_loss(reconstruction.float(), images.float())
