"""DINO discriminator: small heads on the frozen features of a vision transformer judge every token at five depths.

Papers: StyleGAN-T, Sauer et al. 2023, arXiv:2301.09515; in the form of GSQ, arXiv:2412.02632 ("DD"): DINOv2 with registers at 518 pixels,
all tokens kept (class token and registers too), plain batch norm, no spectral norm.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from tokenizer.discriminators.augment import Augmentation, window
from tokenizer.interfaces import Discriminator
from tokenizer.layers.checks import require_one_of
from tokenizer.layers.conv import reset_layers
from tokenizer.layers.feature_network import FeatureNetwork
from tokenizer.layers.frozen import Frozen

KERNEL = 9


class DINODiscriminator(Discriminator):
    """A head on the token embedding and one on the output of each tapped block.

    The transformer is neither trained nor saved; gradients pass through it to the images. A gradient penalty needs its attention computed
    by a kernel that can be derived twice (`torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`).
    """

    def __init__(self, network: Literal["dinov2_vits14_reg"], input_size: int, taps: list[int], augmentation: list[str]) -> None:
        """Load the transformer and lay out the heads.

        Args:
            network: the name of the transformer's file of weights.
            input_size: pixels a side that the transformer sees, a multiple of its patch size. It alone decides the cost.
            taps: blocks whose outputs are judged, counted from 0, in ascending order. The token embedding is judged too.
            augmentation: see `Augmentation`.

        Raises:
            ValueError: an unknown network or augmentation, a size or taps that do not fit, or a damaged file of weights.
            MissingWeightsError: the transformer's weights are not on this machine.
        """
        super().__init__()
        require_one_of("discriminator.network", network, ("dinov2_vits14_reg",))
        self.input_size = input_size
        self.augmentation = Augmentation(augmentation)
        tokens = TokenNetwork(network, input_size, taps)
        self.tokens = Frozen(tokens)
        self.heads = nn.ModuleList(TokenHead(tokens.width) for _ in range(len(taps) + 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, K), K = heads x tokens. Images larger than `input_size` are judged by a random square of them."""
        images = images.to(torch.promote_types(images.dtype, torch.float32)) / 2 + 0.5
        images = self.augmentation(images)
        height, width = images.shape[-2:]
        if min(height, width) > self.input_size:
            top, left = (torch.randint(side - self.input_size + 1, (len(images),), device=images.device) for side in (height, width))
            images = window(images, top, left, self.input_size, self.input_size)
        return torch.cat([head(tokens) for head, tokens in zip(self.heads, self.tokens(images), strict=True)], dim=1)

    def reset_parameters(self) -> None:
        """Draw all parameters anew; the transformer has none."""
        reset_layers(self)


class TokenNetwork(nn.Module):
    """The inner tokens of a vision transformer."""

    def __init__(self, name: str, input_size: int, taps: list[int]) -> None:
        """See `DINODiscriminator`."""
        super().__init__()
        self.published = FeatureNetwork(name, input_size, key="discriminator_input_size", without="discriminator=patchgan")
        transformer = self.published.network
        depth = len(transformer.blocks)
        if not taps or taps != sorted(set(taps)) or taps[0] < 0 or taps[-1] >= depth:
            raise ValueError(f"discriminator.taps is {taps}; expected ascending numbers of blocks from 0 to {depth - 1}")
        self.taps = frozenset(taps)
        self.width: int = transformer.embed_dim

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1] to (B, tokens, C) of the embedding with positions and of each tap, without the final norm."""
        transformer = self.published.network
        tokens: Tensor = transformer.norm_pre(transformer._pos_embed(transformer.patch_embed(self.published.prepare(images))))
        found = [tokens]
        for number, block in enumerate(transformer.blocks[: max(self.taps) + 1]):
            tokens = block(tokens)
            if number in self.taps:
                found.append(tokens)
        return found


class TokenHead(nn.Module):
    """A logit for each token: two convolutions over the row of tokens, the second over a ring of them with a way around it."""

    def __init__(self, width: int) -> None:
        """Judge tokens of `width` channels."""
        super().__init__()
        self.inner = nn.Sequential(nn.Conv1d(width, width, 1), nn.BatchNorm1d(width), nn.LeakyReLU(0.2))
        ring = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, padding_mode="circular")
        self.residual = nn.Sequential(ring, nn.BatchNorm1d(width), nn.LeakyReLU(0.2))
        self.logits = nn.Conv1d(width, 1, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to (B, N)."""
        inner = self.inner(tokens.transpose(1, 2))
        judged: Tensor = self.logits((self.residual(inner) + inner) * math.sqrt(0.5))
        return judged.squeeze(1)
