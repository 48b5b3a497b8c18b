"""Published networks that judge pictures by their features: DINOv2 with registers, ResNet-50, VGG-16.

Papers: Oquab et al. 2023, arXiv:2304.07193 and Darcet et al. 2023, arXiv:2309.16588 (DINOv2); Wightman et al. 2021, arXiv:2110.00476
(ResNet-50, recipe A1); Simonyan and Zisserman 2014, arXiv:1409.1556 (VGG-16). The networks are timm's, the weights come from the published
files, which nothing here fetches.
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

SMALLEST_SIDE = 32  # of a convolutional network: what it shrinks to one cell


@dataclass(frozen=True)
class Published:
    """A network of timm.

    Attributes:
        timm_name: with the tag of its weights, to which timm knows mean and standard deviation of the images.
        rename: timm's own function from the published file's tensors, and the network, to the network's tensors.
        patch_size: pixels a side of a transformer's patch, None for a convolutional network.
    """

    timm_name: str
    rename: Callable[[Any, Any], dict[str, Tensor]]
    patch_size: int | None = None


NETWORKS = {
    "dinov2_vits14_reg": Published("vit_small_patch14_reg4_dinov2.lvd142m", vision_transformer.checkpoint_filter_fn, patch_size=14),
    "resnet50_a1": Published("resnet50.a1_in1k", lambda published, network: published),
    "vgg16": Published("vgg16.tv_in1k", lambda published, network: vgg._filter_fn(published)),
}
"""By the name of the file of weights."""


class FeatureNetwork(nn.Module):
    """A published network with its weights, which `layers.frozen.Frozen` should hold. It resizes and normalises its images itself.

    Resizing averages areas and has weights that sum to one, so that it makes no difference whether the mean is taken off before or after.
    """

    network: Any
    mean: Tensor
    deviation: Tensor

    def __init__(self, name: str, input_size: int, key: str, without: str) -> None:
        """Load the network; also under `torch.device("meta")` its weights are real ones.

        Args:
            name: a key of `NETWORKS`, which is also the name of the file of weights.
            input_size: pixels a side that images are resized to; a transformer's table of positions is resized to it.
            key: the configuration's key of `input_size`, for the message.
            without: the option that does without this network, see `tokenizer.weights.find_weights`.

        Raises:
            ValueError: an unknown network, a size that does not fit it, or a file of weights that is damaged or of another network.
            MissingWeightsError: the weights are not on this machine.
        """
        super().__init__()
        if name not in NETWORKS:
            raise ValueError(f"no feature network is known as {name!r}; expected one of {', '.join(NETWORKS)}")
        source = NETWORKS[name]
        _require_size(name, source.patch_size, input_size, key)
        self.input_size = input_size
        with reading_weights(name, without) as path:
            with torch.device("meta"):
                size: dict[str, Any] = {} if source.patch_size is None else {"img_size": input_size}
                self.network = timm.create_model(source.timm_name, pretrained=False, **size)
            published = torch.load(path, map_location="cpu", weights_only=True)
            self.network.load_state_dict(source.rename(published, self.network), assign=True)
        for statistic, entry in (("mean", "mean"), ("deviation", "std")):
            values = torch.tensor(self.network.pretrained_cfg[entry], device="cpu")
            self.register_buffer(statistic, values[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, C): logits of a classifier, the normalised class token of DINO."""
        features: Tensor = self.network(self.prepare(images))
        return features

    def prepare(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to the network's own (B, 3, input_size, input_size)."""
        return (F.interpolate(images, size=(self.input_size, self.input_size), mode="area") - self.mean) / self.deviation


def _require_size(name: str, patch_size: int | None, input_size: int, key: str) -> None:
    if patch_size is None:
        if input_size < SMALLEST_SIDE:
            raise ValueError(f"{key}={input_size}: {name} needs at least {SMALLEST_SIDE} pixels a side; change `{key}`")
    elif input_size < patch_size or input_size % patch_size:
        below = input_size // patch_size * patch_size
        near = [str(size) for size in (below, below + patch_size) if size > 0]
        expected = f"expected a multiple of {patch_size}, the patch of {name}"
        raise ValueError(f"{key}={input_size}: {expected}; nearest: {' and '.join(near)}; change `{key}`")
