"""PatchGAN: a small convolutional network with a logit for each of many overlapping patches.

Source: Isola et al. 2017, arXiv:1611.07004; in the form of GSQ, arXiv:2412.02632 appendix C ("NLD"), with its initialization.
"""

from typing import Literal

from torch import Tensor, nn

from tokenizer.interfaces import Discriminator
from tokenizer.layers.checks import ArgumentError, require_at_least, require_one_of, require_side
from tokenizer.layers.conv import ScaledConv2d, reset_layers
from tokenizer.layers.norm import group_norm

MOST_LAYERS = 16  # far above what any image has pixels for


class PatchDiscriminator(Discriminator):
    """4x4 convolutions of stride 2, except for the last two; one logit per patch.

    With three layers the receptive field of a logit is 70 x 70 pixels. With batch norm, real and fake images are normalized separately, on
    each process by its own statistics.

    Args:
        width: channels of the first layer; doubled by every layer, up to eightfold.
        layers: normalized layers between the first convolution and the one to logits.
        normalization: batch norm, as in the paper, or group norm, which suits small batches.
        norm_groups: groups of the group norms.
        input_range: range of the network's input: "unit" for [0, 1], as in the paper, "symmetric" for [-1, 1].
        head_bias: whether the last convolution has a bias, as in the network of Isola et al. 2017 and in GigaTok, arXiv:2504.08736.

    Raises:
        ValueError: an unknown choice, no channels, no layers or too many, or groups that do not divide a width.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        normalization: Literal["batch", "group"],
        norm_groups: int,
        input_range: Literal["unit", "symmetric"],
        head_bias: bool = False,
    ) -> None:
        super().__init__()
        require_one_of("discriminator.normalization", normalization, ("batch", "group"))
        require_one_of("discriminator.input_range", input_range, ("unit", "symmetric"))
        require_at_least("discriminator.width", width, 1)
        require_at_least("discriminator.layers", layers, 1)
        if layers > MOST_LAYERS:
            raise ArgumentError("discriminator.layers", layers, f"at most {MOST_LAYERS}, each halves the image")
        self.input_range = input_range
        self.smallest_side = 3 * 2**layers
        stages: list[nn.Module] = [_conv(3, width, stride=2, bias=True), nn.LeakyReLU(0.2)]
        current = width
        for layer in range(1, layers + 1):
            following = width * min(2**layer, 8)
            stages.append(_conv(current, following, stride=2 if layer < layers else 1))
            stages.append(nn.BatchNorm2d(following) if normalization == "batch" else group_norm(following, norm_groups))
            stages.append(nn.LeakyReLU(0.2))
            current = following
        self.stages = nn.Sequential(*stages)
        self.head = _conv(current, 1, stride=1, bias=head_bias, gain=0.1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, K), a logit for each patch in raster order.

        Raises:
            ValueError: the images are smaller than a patch.
        """
        require_side(images, self.smallest_side, "discriminator.layers")
        if self.input_range == "unit":
            images = images / 2 + 0.5
        logits: Tensor = self.head(self.stages(images.to(self.head.weight.dtype)))
        return logits.flatten(1)

    def reset_parameters(self) -> None:
        """Re-initialize all parameters."""
        reset_layers(self)


def _conv(in_channels: int, out_channels: int, stride: int, bias: bool = False, gain: float = 1.0) -> ScaledConv2d:
    """4x4 convolution with one pixel of padding."""
    return ScaledConv2d(in_channels, out_channels, 4, stride=stride, gain=gain, bias=bias)
