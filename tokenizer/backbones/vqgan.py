"""Convolutional encoder and decoder of VQGAN's family.

Papers: Esser et al. 2021 (VQGAN), arXiv:2012.09841; as LlamaGen uses them, Sun et al. 2024, arXiv:2406.06525; Open-MAGVIT2, Luo et al.
2024, arXiv:2409.04410; the stem of GigaTok, Xiong et al. 2025, arXiv:2504.08736 section 3. They differ in the arguments below. Other than
in `conv`, the first residual block of a level changes the width, group norms have an epsilon of 1e-6, and layers have torch's default
initialization. As there, `patch_size` > 1 replaces the finest levels by a pixel unshuffle and shuffle, for small machines.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.interfaces import Configurable, Decoder, DecoderOutput, Encoder, EncoderOutput, TokenLayout
from tokenizer.layers.attention import SpatialAttention
from tokenizer.layers.checks import require_at_least, require_one_of
from tokenizer.layers.conv import (
    DepthToSpaceUpsample,
    Downsample,
    DownsampleAfter,
    NearestUpsample,
    ResidualBlock,
    ScaledConv2d,
    pixel_shuffle,
    pixel_unshuffle,
    remaining_levels,
)
from tokenizer.layers.norm import AdaptiveGroupNorm, group_norm, token_statistics

EPS = 1e-6
Attention = Literal["none", "lowest"]


class ImageToMap(Configurable):
    """Images to a map of features: residual blocks of decreasing resolution and increasing width.

    Args:
        channels: C, channels of the map.
        kernel_size: side of the last convolution's kernel, 1 or 3.
        width: channels at multiplier 1.
        multipliers: channel multiplier of each level, from fine to coarse; the resolution is halved between levels.
        blocks: residual blocks of each level.
        middle_blocks: residual blocks after the last level.
        attention: none, or at the lowest resolution, after every block of its level and between the middle blocks.
        padding: where zeros are added before a halving, on both sides or after the last row and column.
        bias: whether residual blocks and the first convolution have biases.
        patch_size: side in pixels of the patches that replace the finest levels, a power of 2; 1 for none.
        norm_groups: groups of every group norm.

    Raises:
        ValueError: a number is below 1, an unknown choice, the patches replace all levels, or the groups do not divide a width.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        width: int,
        multipliers: list[int],
        blocks: int,
        middle_blocks: int = 2,
        attention: Attention = "none",
        padding: Literal["both", "after"] = "both",
        bias: bool = True,
        patch_size: int = 1,
        norm_groups: int = 32,
    ) -> None:
        super().__init__()
        _check(channels, width, blocks, middle_blocks, attention)
        require_one_of("padding", padding, ("both", "after"))
        self.channels = channels
        self.patch_size = patch_size
        self.downsample = 2 ** (len(multipliers) - 1)
        halving = Downsample if padding == "both" else DownsampleAfter
        widths = [width * multiplier for multiplier in remaining_levels(multipliers, patch_size)]
        self.stem = ScaledConv2d(3 * patch_size**2, width, 3, bias=bias)
        stages: list[nn.Module] = []
        current = width
        for level, level_width in enumerate(widths):
            if level > 0:
                stages.append(halving(current))
            attends = attention == "lowest" and level == len(widths) - 1
            stages += _level(current, level_width, blocks, bias, attends, norm_groups)
            current = level_width
        self.stages = nn.Sequential(*stages, *_middle(current, middle_blocks, bias, attention == "lowest", norm_groups))
        self.norm = group_norm(current, norm_groups, EPS)
        self.head = ScaledConv2d(current, channels, kernel_size)
        self.reset_parameters()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [-1, 1] to the map (B, C, h, w) and the features (B, C', h, w) of which the last convolution makes it."""
        patches = pixel_unshuffle(images, self.patch_size).contiguous(memory_format=torch.channels_last)
        features = F.silu(self.norm(self.stages(self.stem(patches))))
        return self.head(features), features

    def reset_parameters(self) -> None:
        """Re-initialize all parameters."""
        reset_to_defaults(self)


class MapToImage(Configurable):
    """A map of features to an image: the levels of `ImageToMap` from coarse to fine.

    All other arguments are those of `ImageToMap`.

    Args:
        extra_blocks: residual blocks of each level beyond `blocks`; VQGAN's decoder has one more than its encoder.
        adaptive_norm: an `AdaptiveGroupNorm` before each level, by the statistics of the map.
        depth_to_space: double the resolution by depth-to-space instead of nearest neighbors.

    Attributes:
        depth: number of stages.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        multipliers: list[int],
        blocks: int,
        adaptive_norm: bool,
        depth_to_space: bool,
        extra_blocks: int = 1,
        middle_blocks: int = 2,
        attention: Attention = "none",
        bias: bool = True,
        patch_size: int = 1,
        norm_groups: int = 32,
    ) -> None:
        super().__init__()
        _check(channels, width, blocks, middle_blocks, attention)
        require_at_least("extra_blocks", extra_blocks, 0)
        self.channels = channels
        self.patch_size = patch_size
        self.upsample = 2 ** (len(multipliers) - 1)
        multipliers = remaining_levels(multipliers, patch_size)
        current = width * multipliers[-1]
        self.stem = ScaledConv2d(channels, current, 3)
        stages = _middle(current, middle_blocks, bias, attention == "lowest", norm_groups)
        for level in reversed(range(len(multipliers))):
            if adaptive_norm:
                stages.append(AdaptiveGroupNorm(current, channels, norm_groups))
            attends = attention == "lowest" and level == len(multipliers) - 1
            stages += _level(current, width * multipliers[level], blocks + extra_blocks, bias, attends, norm_groups)
            current = width * multipliers[level]
            if level > 0:
                stages.append(DepthToSpaceUpsample(current) if depth_to_space else NearestUpsample(current))
        self.stages, self.depth = nn.ModuleList(stages), len(stages)
        self.norm = group_norm(current, norm_groups, EPS)
        self.head = ScaledConv2d(current, 3 * patch_size**2, 3)
        self.reset_parameters()

    def forward(self, features: Tensor, taps: Sequence[int] = ()) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, C, h, w) to images (B, 3, H, W), nominally in [-1, 1], and the outputs (B, C', h', w') of the tapped stages."""
        mean, std = token_statistics(features.flatten(2).transpose(1, 2))
        features = self.stem(features)
        tapped = {}
        for number, stage in enumerate(self.stages, 1):
            features = stage(features, mean, std) if isinstance(stage, AdaptiveGroupNorm) else stage(features)
            if number in taps:
                tapped[f"block{number}"] = features
        return pixel_shuffle(self.head(F.silu(self.norm(features))), self.patch_size), tapped

    def reset_parameters(self) -> None:
        """Re-initialize all parameters."""
        reset_to_defaults(self)


class VQGANEncoder(Encoder):
    """Images to a raster of latents, one a cell of the map.

    Args:
        latent_dim: D.
        stem: network from images to the map.
        project: whether a 1x1 convolution follows the map; without one the map's channels are the latents.

    Raises:
        ValueError: the map has other channels than the latents and is not projected.
    """

    def __init__(self, latent_dim: int, stem: ImageToMap, project: bool = True) -> None:
        super().__init__()
        require_at_least("latent_dim", latent_dim, 1)
        _require_channels(latent_dim, stem.channels, project)
        self.latent_dim, self.downsample = latent_dim, stem.downsample
        self.stem = stem
        self.head = nn.Conv2d(stem.channels, latent_dim, 1) if project else None

    def forward(self, images: Tensor, num_tokens: int | None = None) -> EncoderOutput:
        """Encode images (B, 3, H, W) in [-1, 1]; tokens are in raster order.

        Raises:
            ValueError: `num_tokens` differs from the number of cells.
        """
        cells, features = self.stem(images)
        latents, features = (cells, features) if self.head is None else (self.head(cells), cells)
        grid = (latents.shape[2], latents.shape[3])
        self.require_num_tokens(num_tokens, grid)
        return EncoderOutput(_tokens(latents), TokenLayout(grid), {"tokens": _tokens(features), "map": cells})

    def reset_parameters(self) -> None:
        """Re-initialize all parameters."""
        reset_to_defaults(self)


class VQGANDecoder(Decoder):
    """A raster of latents to an image.

    Args:
        latent_dim: D.
        head: network from the map to images.
        project: whether a 1x1 convolution precedes the map; without one the latents are the map's channels.

    Raises:
        ValueError: as `VQGANEncoder`.
    """

    def __init__(self, latent_dim: int, head: MapToImage, project: bool = True) -> None:
        super().__init__()
        require_at_least("latent_dim", latent_dim, 1)
        _require_channels(latent_dim, head.channels, project)
        self.latent_dim, self.depth = latent_dim, head.depth
        self.stem = nn.Conv2d(latent_dim, head.channels, 1) if project else nn.Identity()
        self.head = head

    @property
    def last_layer(self) -> nn.Module:
        """Convolution to pixels."""
        return self.head.head

    def forward(self, quantized: Tensor, layout: TokenLayout, taps: Sequence[int] = ()) -> DecoderOutput:
        """Decode quantized latents (B, N, D) in raster order; a tap is the number of a stage, and its features are (B, C, h, w).

        Raises:
            ValueError: the layout is not a raster, the number of tokens differs from the number of cells, or there is no such stage.
        """
        self.require_blocks(taps)
        self.require_raster(quantized, layout)
        cells = self.stem(quantized.transpose(1, 2).reshape(len(quantized), self.latent_dim, *layout.grid))
        return DecoderOutput(*self.head(cells, taps))

    def reset_parameters(self) -> None:
        """Re-initialize all parameters."""
        reset_to_defaults(self)


def reset_to_defaults(module: nn.Module) -> None:
    """Re-initialize every layer inside `module` as torch does, convolutions with scaled initial weights too, in order of registration."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.Conv2d.reset_parameters(layer)
        elif isinstance(layer, nn.Linear | nn.GroupNorm):
            layer.reset_parameters()


def _check(channels: int, width: int, blocks: int, middle_blocks: int, attention: str) -> None:
    for name, size in (("channels", channels), ("width", width), ("blocks", blocks)):
        require_at_least(name, size, 1)
    require_at_least("middle_blocks", middle_blocks, 0)
    require_one_of("attention", attention, ("none", "lowest"))


def _require_channels(latent_dim: int, channels: int, project: bool) -> None:
    if not project and channels != latent_dim:
        raise ValueError(f"latent_dim={latent_dim}, but the map has {channels} channels; make them equal, or set project=true")


def _tokens(cells: Tensor) -> Tensor:
    """(B, C, h, w) to (B, L, C) in raster order."""
    return cells.flatten(2).transpose(1, 2)


def _level(in_channels: int, out_channels: int, blocks: int, bias: bool, attention: bool, norm_groups: int) -> list[nn.Module]:
    """Residual blocks of one level, of which the first changes the width, each followed by attention if wanted."""
    stages: list[nn.Module] = []
    for block in range(blocks):
        stages.append(ResidualBlock(out_channels if block else in_channels, out_channels, norm_groups, EPS, bias))
        if attention:
            stages.append(SpatialAttention(out_channels, norm_groups))
    return stages


def _middle(channels: int, blocks: int, bias: bool, attention: bool, norm_groups: int) -> list[nn.Module]:
    """Residual blocks at the lowest resolution, with attention between them if wanted."""
    stages: list[nn.Module] = []
    for block in range(blocks):
        if attention and block > 0:
            stages.append(SpatialAttention(channels, norm_groups))
        stages.append(ResidualBlock(channels, channels, norm_groups, EPS, bias))
    return stages
