"""Convolutional encoder and decoder of GSQ.

Paper: Wang et al. 2024, arXiv:2412.02632 section 3.1 and appendix B; sizes as in figure 3 (width 128, two blocks per level).
Additions for small machines and short runs: `patch_size` > 1 replaces the finest levels, which cost the most, by a pixel unshuffle before
the first convolution and a pixel shuffle after the last. `linear_path` adds a linear map from patches to latents and one back to the
networks, whose last layers then start at zero, so that training starts from a linear autoencoder (the idea of residual autoencoding, Chen
et al. 2024, arXiv:2410.10733, with learned maps).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.interfaces import Decoder, DecoderOutput, Encoder, EncoderOutput, TokenLayout
from tokenizer.layers.attention import SpatialAttention
from tokenizer.layers.checks import require_at_least
from tokenizer.layers.conv import (
    AFTER_SILU,
    DepthToSpaceUpsample,
    Downsample,
    NearestUpsample,
    ResidualBlock,
    ScaledConv2d,
    pixel_shuffle,
    pixel_unshuffle,
    remaining_levels,
    reset_layers,
)
from tokenizer.layers.norm import AdaptiveGroupNorm, group_norm, token_statistics


class ConvEncoder(Encoder):
    """Images to a raster of latents: residual blocks of decreasing resolution and increasing width.

    Args:
        latent_dim: D.
        width: channels at multiplier 1.
        multipliers: channel multiplier of each level, from fine to coarse; the resolution is halved between levels.
        layers: residual blocks of each level and, last, of the middle; a single number applies to all.
        mid_attention: attention between the middle blocks.
        patch_size: side in pixels of the patches that replace the finest levels, a power of 2; 1 for none.
        norm_groups: groups of every group norm.
        linear_path: add a linear map from the pixels of each cell to its latents.

    Raises:
        ValueError: `layers` has the wrong length, the patches replace all levels, or the groups do not divide a width.
    """

    def __init__(
        self,
        latent_dim: int,
        width: int,
        multipliers: list[int],
        layers: int | list[int],
        mid_attention: bool,
        patch_size: int = 1,
        norm_groups: int = 32,
        linear_path: bool = False,
    ) -> None:
        super().__init__()
        require_at_least("latent_dim", latent_dim, 1)
        require_at_least("width", width, 1)
        self.latent_dim = latent_dim
        self.patch_size = patch_size
        self.downsample = 2 ** (len(multipliers) - 1)
        multipliers, blocks = _remaining_levels(multipliers, layers, patch_size)
        widths = [width * multiplier for multiplier in multipliers]
        self.stem = ScaledConv2d(3 * patch_size**2, width, 3)
        stages: list[nn.Module] = []
        current = width
        for level, level_width in enumerate(widths):
            if level > 0:
                stages.append(Downsample(current))
            stages += _level(current, level_width, blocks[level], norm_groups)
            current = level_width
        self.stages = nn.Sequential(*stages, *_middle(current, blocks[-1], mid_attention, norm_groups))
        self.norm = group_norm(current, norm_groups)
        self.head = ScaledConv2d(current, latent_dim, 1, gain=0.0 if linear_path else AFTER_SILU)
        self.linear = ScaledConv2d(3 * self.downsample**2, latent_dim, 1) if linear_path else None

    def forward(self, images: Tensor, num_tokens: int | None = None) -> EncoderOutput:
        """Encode images (B, 3, H, W) in [-1, 1]; tokens are in raster order.

        Raises:
            ValueError: `num_tokens` differs from the number of cells.
        """
        patches = pixel_unshuffle(images, self.patch_size).contiguous(memory_format=torch.channels_last)
        features = self.stages(self.stem(patches))
        features = F.silu(self.norm(features))
        latents: Tensor = self.head(features)
        if self.linear is not None:
            latents = latents + self.linear(pixel_unshuffle(images, self.downsample))
        rows, columns = latents.shape[2:]
        self.require_num_tokens(num_tokens, (rows, columns))
        tokens = features.flatten(2).transpose(1, 2)
        return EncoderOutput(latents.flatten(2).transpose(1, 2), TokenLayout((rows, columns)), {"tokens": tokens})

    def reset_parameters(self) -> None:
        """Re-initialize all parameters."""
        reset_layers(self)


class ConvDecoder(Decoder):
    """A raster of latents to an image: the levels of the encoder from coarse to fine.

    All other arguments are those of `ConvEncoder`.

    Args:
        adaptive_norm: an `AdaptiveGroupNorm` after the middle and after each upsampling.
        depth_to_space: upsample by depth-to-space instead of nearest neighbors.

    Raises:
        ValueError: as `ConvEncoder`.
    """

    def __init__(
        self,
        latent_dim: int,
        width: int,
        multipliers: list[int],
        layers: int | list[int],
        adaptive_norm: bool,
        depth_to_space: bool,
        mid_attention: bool,
        patch_size: int = 1,
        norm_groups: int = 32,
        linear_path: bool = False,
    ) -> None:
        super().__init__()
        require_at_least("latent_dim", latent_dim, 1)
        require_at_least("width", width, 1)
        self.latent_dim = latent_dim
        self.patch_size = patch_size
        self.upsample = 2 ** (len(multipliers) - 1)
        multipliers, blocks = _remaining_levels(multipliers, layers, patch_size)
        current = width * multipliers[-1]
        self.stem = ScaledConv2d(latent_dim, current, 3)
        stages = _middle(current, blocks[-1], mid_attention, norm_groups)
        for level in reversed(range(len(multipliers))):
            if adaptive_norm:
                stages.append(AdaptiveGroupNorm(current, latent_dim, norm_groups))
            stages += _level(current, width * multipliers[level], blocks[level], norm_groups)
            current = width * multipliers[level]
            if level > 0:
                stages.append(DepthToSpaceUpsample(current) if depth_to_space else NearestUpsample(current))
        self.stages, self.depth = nn.ModuleList(stages), len(stages)
        self.norm = group_norm(current, norm_groups)
        self.head = ScaledConv2d(current, 3 * patch_size**2, 3, gain=0.0 if linear_path else AFTER_SILU)
        self.linear = ScaledConv2d(latent_dim, 3 * self.upsample**2, 1) if linear_path else None

    @property
    def last_layer(self) -> nn.Module:
        """Convolution to pixels."""
        return self.head

    def forward(self, quantized: Tensor, layout: TokenLayout, taps: Sequence[int] = ()) -> DecoderOutput:
        """Decode quantized latents (B, N, D) in raster order; a tap is the number of a stage, and its features are (B, C, h, w).

        Raises:
            ValueError: the layout is not a raster, the number of tokens differs from the number of cells, or there is no such stage.
        """
        self.require_blocks(taps)
        self.require_raster(quantized, layout)
        rows, columns = layout.grid
        mean, std = token_statistics(quantized)
        latents = quantized.transpose(1, 2).reshape(len(quantized), self.latent_dim, rows, columns)
        features = self.stem(latents)
        tapped = {}
        for number, stage in enumerate(self.stages, 1):
            features = stage(features, mean, std) if isinstance(stage, AdaptiveGroupNorm) else stage(features)
            if number in taps:
                tapped[f"block{number}"] = features
        patches = self.head(F.silu(self.norm(features)))
        reconstruction = pixel_shuffle(patches, self.patch_size)
        if self.linear is not None:
            reconstruction = reconstruction + pixel_shuffle(self.linear(latents), self.upsample)
        return DecoderOutput(reconstruction, tapped)

    def reset_parameters(self) -> None:
        """Re-initialize all parameters."""
        reset_layers(self)


def _remaining_levels(multipliers: list[int], layers: int | list[int], patch_size: int) -> tuple[list[int], list[int]]:
    """Multipliers of the levels that patches do not replace; residual blocks of each of them and, last, of the middle."""
    remaining = remaining_levels(multipliers, patch_size)
    blocks = [layers] * (len(multipliers) + 1) if isinstance(layers, int) else list(layers)
    require_at_least("layers", min(blocks, default=0), 0)
    if len(blocks) != len(multipliers) + 1:
        raise ValueError(
            f"layers {blocks} has {len(blocks)} entries, expected {len(multipliers) + 1}: one for each of multipliers {list(multipliers)} "
            "and one for the middle; change layers or multipliers, or give one number for all"
        )
    return remaining, blocks[-len(remaining) - 1 :]


def _level(in_channels: int, out_channels: int, blocks: int, norm_groups: int) -> list[nn.Module]:
    """Residual blocks of one level, with an additional first block if the width changes."""
    change: list[nn.Module] = [] if in_channels == out_channels else [ResidualBlock(in_channels, out_channels, norm_groups)]
    return change + [ResidualBlock(out_channels, out_channels, norm_groups) for _ in range(blocks)]


def _middle(channels: int, blocks: int, attention: bool, norm_groups: int) -> list[nn.Module]:
    """Residual blocks at the lowest resolution, with attention between them."""
    stages: list[nn.Module] = []
    for block in range(blocks):
        if attention and block > 0:
            stages.append(SpatialAttention(channels, norm_groups))
        stages.append(ResidualBlock(channels, channels, norm_groups))
    return stages
