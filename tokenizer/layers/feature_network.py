"""Pretrained feature networks: DINOv2, DFN-CLIP, SigLIP, ResNet-50, VGG-16 and EfficientNet-Lite0.

Papers: Oquab et al. 2023, arXiv:2304.07193 and Darcet et al. 2023, arXiv:2309.16588 (DINOv2, with registers); Fang et al. 2023,
arXiv:2309.17425 (DFN-CLIP); Zhai et al. 2023, arXiv:2303.15343 (SigLIP); Wightman et al. 2021, arXiv:2110.00476 (ResNet-50, recipe A1);
Simonyan and Zisserman 2014, arXiv:1409.1556 (VGG-16); Tan and Le 2019, arXiv:1905.11946 (EfficientNet, whose form for mobile devices is
Lite0). The networks are timm's; the weights are read from the published files, which are never downloaded here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.models import vgg, vision_transformer
from torch import Tensor, nn

from tokenizer.weights import reading_weights

SMALLEST_SIDE = 32  # pixels; convolutional networks reduce it to one cell


@dataclass(frozen=True)
class Published:
    """Description of a timm network.

    Attributes:
        timm_name: name with the tag of the weights, which determines the mean and std of the images.
        rename: function of the tensors in the published file and the network that returns the network's tensors.
        patch_size: patch side of a transformer in pixels; None for a convolutional network.
        stage: number, from 0, of the feature map whose cells are the tokens of a convolutional network; None for no tokens. A map has
            half the resolution of the map before, and the first half that of the image.
        mean: mean of all channels of the images; None for those of the timm network.
        std: standard deviation of all channels of the images; None for those of the timm network.
    """

    timm_name: str
    rename: Callable[[Any, Any], dict[str, Tensor]]
    patch_size: int | None = None
    stage: int | None = None
    mean: float | None = None
    std: float | None = None

    @property
    def cell(self) -> int | None:
        """Side of a token in pixels; None for a network without tokens."""
        return self.patch_size if self.stage is None else 2 ** (self.stage + 1)


def _by_position(published: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a file in the order of the network's, under the network's names."""
    own = network.state_dict()
    if len(published) != len(own):
        raise RuntimeError(f"it has {len(published)} tensors, expected {len(own)}")
    for (name, tensor), (published_name, value) in zip(own.items(), published.items(), strict=True):
        if tensor.shape != value.shape:
            raise RuntimeError(f"{published_name} has the shape {tuple(value.shape)}, expected {tuple(tensor.shape)} of {name}")
    return dict(zip(own, published.values(), strict=True))


# Keys are names of weights files, see `tokenizer.weights.FILES`.
NETWORKS = {
    "dinov2_vits14_reg": Published("vit_small_patch14_reg4_dinov2.lvd142m", vision_transformer.checkpoint_filter_fn, patch_size=14),
    "dinov2_vits14": Published("vit_small_patch14_dinov2.lvd142m", vision_transformer.checkpoint_filter_fn, patch_size=14),
    "dinov2_vitb14": Published("vit_base_patch14_dinov2.lvd142m", vision_transformer.checkpoint_filter_fn, patch_size=14),
    "clip_dfn": Published("vit_large_patch14_clip_quickgelu_224.dfn2b", vision_transformer.checkpoint_filter_fn, patch_size=14),
    "siglip": Published("vit_so400m_patch14_siglip_224.webli", vision_transformer.checkpoint_filter_fn, patch_size=14),
    "resnet50_a1": Published("resnet50.a1_in1k", lambda published, network: published),
    "vgg16": Published("vgg16.tv_in1k", lambda published, network: vgg._filter_fn(published)),
    "lite0": Published("tf_efficientnet_lite0.in1k", _by_position, stage=3, mean=127 / 255, std=128 / 255),
}


class FeatureNetwork(nn.Module):
    """Pretrained network that resizes and normalizes its images; wrap it in `layers.frozen.Frozen`.

    Images are resized by weighted means of pixels, so normalizing before or after makes no difference. The weights are loaded also under
    `torch.device("meta")`.

    Args:
        name: key of `NETWORKS`.
        input_size: side in pixels that images are resized to; a transformer's position table is resized to it. None for no resizing,
            except in `tokens`, for which a transformer resizes its table in every call.
        key: configuration key of `input_size`, for messages.
        without: option that avoids this network, see `tokenizer.weights.find_weights`.
        resize: kind of resizing: by the means of areas, or bicubic without antialiasing.

    Raises:
        ValueError: an unknown network, an invalid size, or a weights file that is damaged or of a different network.
        MissingWeightsError: the weights are not on this machine.
    """

    network: Any
    mean: Tensor
    std: Tensor

    def __init__(self, name: str, input_size: int | None, key: str, without: str, resize: Literal["area", "bicubic"] = "area") -> None:
        super().__init__()
        if name not in NETWORKS:
            raise ValueError(f"feature network {name!r} is unknown; expected one of {', '.join(NETWORKS)}")
        self.source = source = NETWORKS[name]
        if input_size is not None:
            _require_size(name, source.patch_size, input_size, key)
        self.input_size, self.resize = input_size, resize
        with reading_weights(name, without) as path:
            with torch.device("meta"):
                size: dict[str, Any] = {"img_size": input_size} if input_size is not None else {"dynamic_img_size": True}
                self.network = timm.create_model(source.timm_name, pretrained=False, **({} if source.patch_size is None else size))
            self.network.load_state_dict(source.rename(_read(path), self.network), assign=True)
        if source.stage is not None:
            self.network.to(memory_format=torch.channels_last)  # twice as fast on a CPU
        for statistic, value in (("mean", source.mean), ("std", source.std)):
            values = self.network.pretrained_cfg[statistic] if value is None else (value,) * 3
            self.register_buffer(statistic, torch.tensor(values, device="cpu")[:, None, None])

    @property
    def cell(self) -> int:
        """Side of a token in pixels.

        Raises:
            ValueError: the network has no tokens.
        """
        if self.source.cell is None:
            raise ValueError(f"{self.source.timm_name} has no tokens")
        return self.source.cell

    @property
    def token_width(self) -> int:
        """Channels of a token."""
        stage = self.source.stage
        width: int = self.network.num_features if stage is None else self.network.feature_info[stage]["num_chs"]
        return width

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, C): logits of a classifier, or the normalized class token of DINOv2."""
        features: Tensor = self.network(self.prepare(images))
        return features

    def tokens(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """Features of the cells of images: normalized patch tokens of a transformer, or cells of a feature map.

        Args:
            images: (B, 3, H, W) in [0, 1], which are resized so that they have the cells.
            grid: (h, w), the number of cells.

        Returns:
            (B, h w, C) in raster order.
        """
        pixels = self.prepare(images, (grid[0] * self.cell, grid[1] * self.cell))
        if self.source.stage is not None:
            (features,) = self._maps(pixels, [self.source.stage])
            return features.flatten(2).transpose(1, 2)
        tokens: Tensor = self.network.forward_features(pixels)
        return tokens[:, self.network.num_prefix_tokens :]

    def maps(self, images: Tensor, stages: Sequence[int]) -> list[Tensor]:
        """Feature maps (B, C, h, w) of a convolutional network, by number from 0, from images (B, 3, H, W) in [0, 1]."""
        return self._maps(self.prepare(images), stages)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, C), the input of the last layer of a classifier."""
        features: Tensor = self.network.forward_head(self.network.forward_features(self.prepare(images)), pre_logits=True)
        return features

    def prepare(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """(B, 3, H, W) in [0, 1] to normalized images of the type of the weights, of `size` or `input_size`."""
        if size is None and self.input_size is not None:
            size = (self.input_size, self.input_size)
        if size is not None:
            images = F.interpolate(images, size=size, mode=self.resize)
        return ((images - self.mean) / self.std).to(next(self.network.parameters()).dtype)

    def _maps(self, pixels: Tensor, stages: Sequence[int]) -> list[Tensor]:
        maps: list[Tensor] = self.network.forward_intermediates(pixels, indices=list(stages), stop_early=True, intermediates_only=True)
        return maps


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def _require_size(name: str, patch_size: int | None, input_size: int, key: str) -> None:
    if patch_size is None:
        if input_size < SMALLEST_SIDE:
            raise ValueError(f"{key}={input_size}: {name} needs at least {SMALLEST_SIDE} pixels per side; change `{key}`")
    elif input_size < patch_size or input_size % patch_size:
        below = input_size // patch_size * patch_size
        sizes = [str(size) for size in (below, below + patch_size) if size > 0]
        expected = f"expected a multiple of {patch_size}, the patch size of {name}"
        raise ValueError(f"{key}={input_size}: {expected}; nearest: {' and '.join(sizes)}; change `{key}`")
