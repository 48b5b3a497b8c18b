"""Pretrained feature networks: DINOv2 with registers, ResNet-50, VGG-16.

Papers: Oquab et al. 2023, arXiv:2304.07193 and Darcet et al. 2023, arXiv:2309.16588 (DINOv2); Wightman et al. 2021, arXiv:2110.00476
(ResNet-50, recipe A1); Simonyan and Zisserman 2014, arXiv:1409.1556 (VGG-16). The networks are timm's; the weights are read
from the published files, which are never downloaded here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torch.nn.functional as F
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
    """

    timm_name: str
    rename: Callable[[Any, Any], dict[str, Tensor]]
    patch_size: int | None = None


# Keys are names of weights files, see `tokenizer.weights.FILES`.
NETWORKS = {
    "dinov2_vits14_reg": Published("vit_small_patch14_reg4_dinov2.lvd142m", vision_transformer.checkpoint_filter_fn, patch_size=14),
    "resnet50_a1": Published("resnet50.a1_in1k", lambda published, network: published),
    "vgg16": Published("vgg16.tv_in1k", lambda published, network: vgg._filter_fn(published)),
}


class FeatureNetwork(nn.Module):
    """Pretrained network that resizes and normalizes its images; wrap it in `layers.frozen.Frozen`.

    Images are resized by area averaging, so normalizing before or after makes no difference. The weights are loaded also under
    `torch.device("meta")`.

    Args:
        name: key of `NETWORKS`.
        input_size: side in pixels that images are resized to; a transformer's position table is resized to it.
        key: configuration key of `input_size`, for messages.
        without: option that avoids this network, see `tokenizer.weights.find_weights`.

    Raises:
        ValueError: an unknown network, an invalid size, or a weights file that is damaged or of a different network.
        MissingWeightsError: the weights are not on this machine.
    """

    network: Any
    mean: Tensor
    std: Tensor

    def __init__(self, name: str, input_size: int, key: str, without: str) -> None:
        super().__init__()
        if name not in NETWORKS:
            raise ValueError(f"feature network {name!r} is unknown; expected one of {', '.join(NETWORKS)}")
        source = NETWORKS[name]
        _require_size(name, source.patch_size, input_size, key)
        self.input_size = input_size
        with reading_weights(name, without) as path:
            with torch.device("meta"):
                size: dict[str, Any] = {} if source.patch_size is None else {"img_size": input_size}
                self.network = timm.create_model(source.timm_name, pretrained=False, **size)
            published = torch.load(path, map_location="cpu", weights_only=True)
            self.network.load_state_dict(source.rename(published, self.network), assign=True)
        for statistic in ("mean", "std"):
            values = torch.tensor(self.network.pretrained_cfg[statistic], device="cpu")
            self.register_buffer(statistic, values[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, C): logits of a classifier, or the normalized class token of DINOv2."""
        features: Tensor = self.network(self.prepare(images))
        return features

    def prepare(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to normalized images (B, 3, input_size, input_size)."""
        return (F.interpolate(images, size=(self.input_size, self.input_size), mode="area") - self.mean) / self.std


def _require_size(name: str, patch_size: int | None, input_size: int, key: str) -> None:
    if patch_size is None:
        if input_size < SMALLEST_SIDE:
            raise ValueError(f"{key}={input_size}: {name} needs at least {SMALLEST_SIDE} pixels per side; change `{key}`")
    elif input_size < patch_size or input_size % patch_size:
        below = input_size // patch_size * patch_size
        sizes = [str(size) for size in (below, below + patch_size) if size > 0]
        expected = f"expected a multiple of {patch_size}, the patch size of {name}"
        raise ValueError(f"{key}={input_size}: {expected}; nearest: {' and '.join(sizes)}; change `{key}`")
