"""DINO discriminator: small heads on frozen features of a vision transformer, with a logit for every token at five depths.

Papers: StyleGAN-T, Sauer et al. 2023, arXiv:2301.09515; in the form of GSQ, arXiv:2412.02632 ("DD"): DINOv2 with registers at 518 pixels,
all tokens including class token and registers, plain batch norm, no spectral norm.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from tokenizer.discriminators.augment import Augmentation, crop
from tokenizer.interfaces import Discriminator
from tokenizer.layers.checks import require_one_of
from tokenizer.layers.conv import reset_layers
from tokenizer.layers.feature_network import FeatureNetwork
from tokenizer.layers.frozen import Frozen

KERNEL = 9


class DINODiscriminator(Discriminator):
    """A head on the token embedding and one on the output of each tapped block.

    The transformer is neither trained nor saved; gradients pass through it to the images. A gradient penalty needs an attention kernel with
    second derivatives (`torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`).

    Args:
        network: name of the transformer's weights file.
        input_size: side of the transformer's input in pixels, a multiple of its patch size; it alone determines the cost.
        taps: numbers of the blocks with a head, counted from 0, in ascending order.
        augmentation: see `Augmentation`.

    Raises:
        ValueError: an unknown network or augmentation, an invalid size or invalid taps, or a damaged weights file.
        MissingWeightsError: the transformer's weights are not on this machine.
    """

    def __init__(self, network: Literal["dinov2_vits14_reg"], input_size: int, taps: list[int], augmentation: list[str]) -> None:
        super().__init__()
        require_one_of("discriminator.network", network, ("dinov2_vits14_reg",))
        self.input_size = input_size
        self.augmentation = Augmentation(augmentation)
        tokens = TokenNetwork(network, input_size, taps)
        self.tokens = Frozen(tokens)
        self.heads = nn.ModuleList(TokenHead(tokens.width) for _ in range(len(taps) + 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, K), K = heads x tokens. Images larger than `input_size` are cropped at random positions."""
        images = images.to(torch.promote_types(images.dtype, torch.float32)) / 2 + 0.5
        images = self.augmentation(images)
        height, width = images.shape[-2:]
        if min(height, width) > self.input_size:
            top, left = (torch.randint(side - self.input_size + 1, (len(images),), device=images.device) for side in (height, width))
            images = crop(images, top, left, self.input_size, self.input_size)
        return torch.cat([head(tokens) for head, tokens in zip(self.heads, self.tokens(images), strict=True)], dim=1)

    def reset_parameters(self) -> None:
        """Re-initialize the heads."""
        reset_layers(self)


class TokenNetwork(nn.Module):
    """Tokens inside a vision transformer; see `DINODiscriminator`."""

    def __init__(self, name: str, input_size: int, taps: list[int]) -> None:
        super().__init__()
        self.published = FeatureNetwork(name, input_size, key="discriminator_input_size", without="discriminator=patchgan")
        transformer = self.published.network
        depth = len(transformer.blocks)
        if not taps or taps != sorted(set(taps)) or taps[0] < 0 or taps[-1] >= depth:
            raise ValueError(f"discriminator.taps is {taps}; expected ascending block numbers from 0 to {depth - 1}")
        self.taps = frozenset(taps)
        self.width: int = transformer.embed_dim

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1] to tokens (B, N, C) of the embedding with positions and of each tap, without the final norm."""
        transformer = self.published.network
        tokens: Tensor = transformer.norm_pre(transformer._pos_embed(transformer.patch_embed(self.published.prepare(images))))
        outputs = [tokens]
        for number, block in enumerate(transformer.blocks[: max(self.taps) + 1]):
            tokens = block(tokens)
            if number in self.taps:
                outputs.append(tokens)
        return outputs


class TokenHead(nn.Module):
    """Logit of each token: two convolutions over the sequence of tokens, the second one circular and residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv1d(width, width, 1), nn.BatchNorm1d(width), nn.LeakyReLU(0.2))
        circular = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, padding_mode="circular")
        self.residual = nn.Sequential(circular, nn.BatchNorm1d(width), nn.LeakyReLU(0.2))
        self.logits = nn.Conv1d(width, 1, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to (B, N)."""
        inner = self.inner(tokens.transpose(1, 2))
        logits: Tensor = self.logits((self.residual(inner) + inner) * math.sqrt(0.5))
        return logits.squeeze(1)
