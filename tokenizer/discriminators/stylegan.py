"""StyleGAN-like discriminator: residual blocks with blurred downsampling, one logit per image.

Source: Yu et al. 2023, arXiv:2310.05737 (MAGVIT's discriminator, after Karras et al. 2019, arXiv:1812.04948), for images as in GSQ,
arXiv:2412.02632 appendix C ("SGD"): no equalized learning rate, no minibatch standard deviation, no spectral norm, and torch's default
initialization. It is unstable: most runs in arXiv:2412.02632, figure 10, end in NaN.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.discriminators.augment import Augmentation
from tokenizer.interfaces import Discriminator
from tokenizer.layers.checks import ArgumentError, require_at_least, require_one_of, require_side
from tokenizer.layers.conv import reset_layers


class StyleGANDiscriminator(Discriminator):
    """Convolution, a downsampling block for each multiplier, convolution, global average pooling, two linear layers.

    Args:
        width: channels of the first convolution.
        multipliers: multiplier of `width` for the channels of each block.
        negative_slope: negative slope of the leaky ReLUs.
        input_range: range of the network's input: "unit" for [0, 1], as in the paper, "symmetric" for [-1, 1].
        augmentation: see `Augmentation`.

    Raises:
        ValueError: an unknown range or augmentation, no multipliers, or a width below 1.
    """

    def __init__(
        self,
        width: int,
        multipliers: Sequence[int],
        negative_slope: float,
        input_range: Literal["unit", "symmetric"],
        augmentation: list[str],
    ) -> None:
        super().__init__()
        require_one_of("discriminator.input_range", input_range, ("unit", "symmetric"))
        require_at_least("discriminator.width", width, 1)
        if min(multipliers, default=0) < 1:
            raise ArgumentError("discriminator.multipliers", list(multipliers), "at least one number, and each at least 1")
        widths = [width, *(width * multiplier for multiplier in multipliers)]
        self.input_range = input_range
        self.augmentation = Augmentation(augmentation)
        self.smallest_side = 2 ** len(multipliers)
        last = widths[-1]
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.LeakyReLU(negative_slope))
        self.blocks = nn.Sequential(*(_DownsamplingBlock(*pair, negative_slope) for pair in pairwise(widths)))
        self.head = nn.Sequential(
            nn.Conv2d(last, last, 3, padding=1),
            nn.LeakyReLU(negative_slope),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(last, last),
            nn.LeakyReLU(negative_slope),
            nn.Linear(last, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, 1). Downsampling drops the last row or column of odd sizes.

        Raises:
            ValueError: the images are too small for the number of blocks.
        """
        require_side(images, self.smallest_side, "the number of discriminator.multipliers")
        images = images.to(torch.promote_types(images.dtype, torch.float32))  # augment real and fake images in the same precision
        images = self.augmentation(images / 2 + 0.5)
        if self.input_range == "symmetric":
            images = 2 * images - 1
        logits: Tensor = self.head(self.blocks(self.stem(images.to(next(self.parameters()).dtype))))
        return logits

    def reset_parameters(self) -> None:
        """Re-initialize all parameters."""
        reset_layers(self)


class _DownsamplingBlock(nn.Module):
    """leaky(conv(down(leaky(conv(x))))) + conv1x1(down(x)); the sum is not scaled."""

    def __init__(self, in_channels: int, out_channels: int, negative_slope: float) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.downsample = _BlurredDownsampling()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C', h // 2, w // 2)."""
        inner = self.downsample(F.leaky_relu(self.conv1(features), self.negative_slope))
        summed: Tensor = F.leaky_relu(self.conv2(inner), self.negative_slope) + self.skip(self.downsample(features))
        return summed


class _BlurredDownsampling(nn.Module):
    """Blur by [1, 2, 1] / 4 along both axes with a replicated border, then 2x2 average pooling, as one fixed convolution."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.empty(4, 4), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill the kernel: [1, 2, 1] / 4 convolved with [1, 1] / 2 is [1, 3, 3, 1] / 8."""
        line = torch.tensor([1.0, 3.0, 3.0, 1.0], device=self.kernel.device) / 8
        self.kernel.copy_(torch.outer(line, line))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, h // 2, w // 2)."""
        channels = features.shape[1]
        kernel = self.kernel.to(features.dtype).expand(channels, 1, 4, 4)
        return F.conv2d(F.pad(features, (1, 1, 1, 1), mode="replicate"), kernel, stride=2, groups=channels)
