"""Files with the names and shapes of the published weights and random values: small, because rows of a matrix share their numbers."""

import functools
import math
import tempfile
import warnings
from pathlib import Path

import timm
import torch
import torchvision
from torch import Tensor, nn

from tokenizer.weights import FILES


def write_random_weights(folder: Path) -> None:
    """Write a file for every name of `FILES` but those of safetensors; all load strictly and keep the size of activations over depth."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, shapes) in enumerate(published_shapes().items()):
        generator = torch.Generator().manual_seed(number)
        torch.save({key: random_tensor(key, shape, generator) for key, shape in shapes.items()}, folder / FILES[name].filename)


def random_weights(name: str) -> dict[str, Tensor]:
    """What `write_random_weights` puts into the file of one name, as ordinary tensors."""
    generator = torch.Generator().manual_seed(list(FILES).index(name))
    return {key: random_tensor(key, shape, generator).contiguous() for key, shape in published_shapes()[name].items()}


@functools.cache
def published_shapes() -> dict[str, dict[str, tuple[int, ...]]]:
    """Names and shapes of the tensors in each published file, in the order of `FILES`."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        networks = {
            "vgg16": torchvision.models.vgg16(weights=None),
            "alexnet": torchvision.models.alexnet(weights=None),
            "inception": untrained_inception(),
            "dinov2_vits14_reg": timm.create_model("vit_small_patch14_reg4_dinov2", pretrained=False),
            "resnet50_a1": timm.create_model("resnet50", pretrained=False),
            "lite0": timm.create_model("tf_efficientnet_lite0", pretrained=False),
            "dinov2_vitb14": timm.create_model("vit_base_patch14_dinov2", pretrained=False),
            "dinov2_vits14": timm.create_model("vit_small_patch14_dinov2", pretrained=False),
        }
    named = {name: network.state_dict() for name, network in networks.items()}
    shapes = {name: {key: tuple(tensor.shape) for key, tensor in named[name].items()} for name in FILES if name in named}
    for name in ("dinov2_vitb14", "dinov2_vits14"):
        shapes[name]["mask_token"] = (1, shapes[name]["cls_token"][2])
    # The published file of DINOv2 with registers gives the class token a position, and has a token for hidden patches.
    dino = shapes["dinov2_vits14_reg"]
    del dino["reg_token"]
    shapes["dinov2_vits14_reg"] = dino | {"pos_embed": (1, 1370, 384), "register_tokens": (1, 4, 384), "mask_token": (1, 384)}
    return shapes


def untrained_inception() -> nn.Module:
    """The network of the Inception file, on the meta device; the library's class insists on reading a file."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, *arguments, **options):
            return None

    with tempfile.NamedTemporaryFile() as file:
        torch.save({}, file.name)
        return Untrained("inception", ["2048"], feature_extractor_weights_path=file.name)


def random_tensor(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Values that suit the kind of tensor; each row of a matrix is the row above it, moved by one, and one new number."""
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.long)
    if kind in ("running_var", "gamma"):
        return torch.rand(shape, generator=generator) / 2 + 0.5
    if kind == "weight" and len(shape) == 1:
        return 1 + 0.1 * torch.randn(shape, generator=generator)
    if kind == "weight":
        fan_in = math.prod(shape[1:])
        numbers = torch.randn(shape[0] + fan_in - 1, generator=generator) * math.sqrt(2 / fan_in)
        below = [math.prod(shape[place + 1 :]) for place in range(1, len(shape))]
        return numbers.as_strided(shape, (1, *below))
    return 0.1 * torch.randn(shape, generator=generator)
