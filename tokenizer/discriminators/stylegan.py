"""A deep discriminator in StyleGAN's manner: residual blocks that halve the image behind a blur, one logit an image.

Source: Yu et al. 2023, arXiv:2310.05737 (MAGVIT's discriminator, after Karras et al. 2019, arXiv:1812.04948), for images as in GSQ,
arXiv:2412.02632 appendix C ("SGD"): no equalised learning rate, no standard deviation over the batch, no spectral norm, and torch's default
start of the weights. It is delicate: arXiv:2412.02632, figure 10, shows most runs with it end in NaN.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.discriminators.augment import Augmentation
from tokenizer.interfaces import Discriminator
from tokenizer.layers.checks import require_one_of, require_side
from tokenizer.layers.conv import reset_layers


class StyleGANDiscriminator(Discriminator):
    """Convolution, a halving block for each multiplier, convolution, mean over the map, two linear layers."""

    def __init__(
        self,
        width: int,
        multipliers: Sequence[int],
        negative_slope: float,
        input_range: Literal["unit", "symmetric"],
        augmentation: list[str],
    ) -> None:
        """Lay out the network.

        Args:
            width: channels of the first convolution.
            multipliers: of `width`, the channels after each halving.
            negative_slope: of the leaky ReLUs.
            input_range: the images that the network sees: "unit" in [0, 1] as in the paper, "symmetric" in [-1, 1].
            augmentation: see `Augmentation`.

        Raises:
            ValueError: an unknown range or augmentation, no multiplier, or a width below 1.
        """
        super().__init__()
        require_one_of("discriminator.input_range", input_range, ("unit", "symmetric"))
        widths = [width, *(width * multiplier for multiplier in multipliers)]
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(
                f"discriminator.width={width} and discriminator.multipliers={list(multipliers)}: expected numbers of at least 1, "
                "and at least one multiplier"
            )
        self.input_range = input_range
        self.augmentation = Augmentation(augmentation)
        self.smallest_side = 2 ** len(multipliers)
        last = widths[-1]
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.LeakyReLU(negative_slope))
        self.blocks = nn.Sequential(*(_HalvingBlock(*pair, negative_slope) for pair in pairwise(widths)))
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
        """(B, 3, H, W) in [-1, 1] to (B, 1). Odd maps lose their last row or column when halved.

        Raises:
            ValueError: the images are too small to be halved so often.
        """
        require_side(images, self.smallest_side, "the number of discriminator.multipliers")
        images = images.to(torch.promote_types(images.dtype, torch.float32))  # both players' pictures are augmented alike
        images = self.augmentation(images / 2 + 0.5)
        if self.input_range == "symmetric":
            images = 2 * images - 1
        logits: Tensor = self.head(self.blocks(self.stem(images)))
        return logits

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        reset_layers(self)


class _HalvingBlock(nn.Module):
    """leaky(conv(halve(leaky(conv(x))))) plus halve(x) through a 1x1 convolution; the sum is not scaled."""

    def __init__(self, in_channels: int, out_channels: int, negative_slope: float) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.halve = _BlurredHalving()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C', h // 2, w // 2)."""
        inner = self.halve(F.leaky_relu(self.conv1(features), self.negative_slope))
        summed: Tensor = F.leaky_relu(self.conv2(inner), self.negative_slope) + self.skip(self.halve(features))
        return summed


class _BlurredHalving(nn.Module):
    """A blur by [1, 2, 1] / 4 along both sides, beyond the border 0, and the mean of 2x2 cells: one fixed convolution."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.empty(4, 4), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill in the kernel: [1, 2, 1] / 4 after [1, 1] / 2 is [1, 3, 3, 1] / 8."""
        line = torch.tensor([1.0, 3.0, 3.0, 1.0], device=self.kernel.device) / 8
        self.kernel.copy_(torch.outer(line, line))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, h // 2, w // 2)."""
        channels = features.shape[1]
        kernel = self.kernel.to(features.dtype).expand(channels, 1, 4, 4)
        return F.conv2d(features, kernel, stride=2, padding=1, groups=channels)
