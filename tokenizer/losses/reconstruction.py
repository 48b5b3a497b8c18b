"""Distances between pixel values."""

import torch.nn.functional as F
from torch import Tensor, nn


class L1Loss(nn.Module):
    """Mean absolute difference."""

    def forward(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Mean over all elements in fp32, from two (B, 3, H, W) in [-1, 1]."""
        return F.l1_loss(reconstruction.float(), images.float())


class L2Loss(nn.Module):
    """Mean squared difference."""

    def forward(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Mean over all elements in fp32, from two (B, 3, H, W) in [-1, 1]."""
        return F.mse_loss(reconstruction.float(), images.float())
