"""Blocks of convolutional autoencoders: residual blocks, downsampling and upsampling.

Paper: GSQ, Wang et al. 2024, arXiv:2412.02632 appendix B, figure 6. The initialization follows the paper's released code.
Deviation: depth-to-space orders channels as (c, row, column), like torch's `pixel_shuffle`; the released code uses (row, column, c). The
two differ by a permutation of the preceding convolution's output channels.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.layers.checks import ArgumentError, require_at_least
from tokenizer.layers.norm import group_norm

AFTER_SILU = 1.6761  # 1 / root mean square of silu(x) for x ~ N(0, 1)
RESIDUAL = math.sqrt(0.5)


class ScaledConv2d(nn.Conv2d):
    """Convolution with (kernel_size - 1) // 2 pixels of padding, and weights initialized from N(0, gain^2 / fan_in).

    Args:
        in_channels: number of input channels.
        out_channels: number of output channels.
        kernel_size: side of the kernel in pixels.
        stride: stride in pixels.
        gain: factor of the initial weights, which compensates for a preceding nonlinearity.
        bias: whether to add a bias, initialized as in torch.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, gain: float = 1.0, bias: bool = True
    ) -> None:
        self.gain = gain  # before super(), which initializes the weights
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, padding=(kernel_size - 1) // 2, bias=bias)

    def reset_parameters(self) -> None:
        """Re-initialize weight and bias."""
        super().reset_parameters()
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")
        self.weight.data.mul_(self.gain)


def remaining_levels(multipliers: list[int], patch_size: int) -> list[int]:
    """Multipliers of the levels that patches do not replace, from fine to coarse.

    Args:
        multipliers: channel multiplier of each level, from fine to coarse.
        patch_size: side in pixels of the patches that replace the finest levels, a power of 2; 1 for none.

    Raises:
        ValueError: no levels, a multiplier below 1, or patches of another size than one of the levels'.
    """
    if not multipliers:
        raise ArgumentError("multipliers", list(multipliers), "at least one level, such as [1]")
    require_at_least("multipliers", min(multipliers), 1)
    sizes = [2**level for level in range(len(multipliers))]
    if patch_size not in sizes:
        raise ValueError(
            f"patch_size={patch_size} cannot replace the finest of {len(multipliers)} levels; expected one of "
            f"{', '.join(map(str, sizes))}; change patch_size or multipliers"
        )
    return list(multipliers)[sizes.index(patch_size) :]


def reset_layers(module: nn.Module) -> None:
    """Re-initialize every layer inside `module`, in order of registration."""
    for layer in module.modules():
        reset = getattr(layer, "reset_parameters", None)
        if layer is not module and callable(reset):
            reset()


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), with a 1x1 convolution of the first x if the width changes.

    Args:
        in_channels: C.
        out_channels: C'.
        norm_groups: groups of both group norms.
        eps: epsilon of both group norms.
        bias: whether the convolutions have biases.
    """

    def __init__(self, in_channels: int, out_channels: int, norm_groups: int, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        self.skip = nn.Identity() if in_channels == out_channels else ScaledConv2d(in_channels, out_channels, 1, bias=bias)
        self.norm1 = group_norm(in_channels, norm_groups, eps)
        self.conv1 = ScaledConv2d(in_channels, out_channels, 3, gain=AFTER_SILU, bias=bias)
        self.norm2 = group_norm(out_channels, norm_groups, eps)
        self.conv2 = ScaledConv2d(out_channels, out_channels, 3, gain=AFTER_SILU * RESIDUAL, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C', h, w)."""
        inner = self.conv1(F.silu(self.norm1(features)))
        inner = self.conv2(F.silu(self.norm2(inner)))
        summed: Tensor = self.skip(features) + inner
        return summed


def pixel_shuffle(features: Tensor, factor: int) -> Tensor:
    """(B, C factor^2, h, w) to (B, C, h factor, w factor), also for B = 0, where torch's function returns its input."""
    batch, channels, height, width = features.shape
    empty = (0, channels // factor**2, height * factor, width * factor)
    return F.pixel_shuffle(features, factor) if batch else features.reshape(empty)


def pixel_unshuffle(images: Tensor, factor: int) -> Tensor:
    """Inverse of `pixel_shuffle`."""
    batch, channels, height, width = images.shape
    return F.pixel_unshuffle(images, factor) if batch else images.reshape(0, channels * factor**2, height // factor, width // factor)


class Downsample(ScaledConv2d):
    """3x3 convolution of stride 2: (B, C, h, w) to (B, C, h/2, w/2) for even h and w."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2)


class DownsampleAfter(Downsample):
    """The same with zeros after the last row and column alone, as in VQGAN (Esser et al. 2021, arXiv:2012.09841)."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, h/2, w/2)."""
        return F.conv2d(F.pad(features, (0, 1, 0, 1)), self.weight, self.bias, stride=2)


class NearestUpsample(nn.Module):
    """Nearest-neighbor upsampling by 2, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ScaledConv2d(channels, channels, 3)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, 2h, 2w)."""
        doubled: Tensor = self.conv(F.interpolate(features, scale_factor=2.0, mode="nearest"))
        return doubled


class DepthToSpaceUpsample(nn.Module):
    """3x3 convolution to four times the width, with torch's default initialization, then a pixel shuffle by 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, 2h, 2w)."""
        return pixel_shuffle(self.conv(features), 2)
