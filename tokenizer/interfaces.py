"""The vocabulary of the house: what encoders, quantizers, decoders, discriminators and losses say to each other.

Axis letters everywhere: B batch, H W pixels, C channels, L cells of the image's grid, N kept tokens, D latent width,
G groups (indices per token), d = D/G channels per group, V codebook size.

One layout of tensors between parts: tokens, channels last, (B, N, D). One index shape: (B, N, G) int64.
Images are (B, 3, H, W), nominally in [-1, 1]; reconstructions are not clamped.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn


@dataclass(frozen=True)
class TokenLayout:
    """Where tokens lie on the image's grid of cells.

    Attributes:
        grid: (h, w) of the image's cells, h * w = L.
        kind: raster (one token a cell), sequence (no place), merged (a token owns several cells).
        assignment: (B, L) int64 in [0, N): the token that owns each cell; tokens are ordered by their first raster cell.
        token_sizes: (B, N) number of cells of each token.
    """

    grid: tuple[int, int]
    kind: Literal["raster", "sequence", "merged"] = "raster"
    assignment: Tensor | None = None
    token_sizes: Tensor | None = None


@dataclass(frozen=True)
class EncoderOutput:
    """latents (B, N, D), their layout, and the inner features that were asked for at construction."""

    latents: Tensor
    layout: TokenLayout
    features: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class QuantizerOutput:
    """What a quantizer made of the latents.

    Attributes:
        quantized: (B, N, D), carries the straight-through gradient.
        indices: (B, N, G) int64 in [0, V).
        lookup_latents: (B, N, G, d), what was compared with the codes, with gradient.
        losses: unweighted scalars, `commitment` and `codebook` where the method has them.
    """

    quantized: Tensor
    indices: Tensor
    lookup_latents: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class DecoderOutput:
    """reconstruction (B, 3, H, W), not clamped, and the inner features that were asked for at construction."""

    reconstruction: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenizerOutput:
    """One pass through an image tokenizer."""

    encoder: EncoderOutput
    quantizer: QuantizerOutput
    decoder: DecoderOutput


@dataclass
class ImageBatch:
    """Images on their way to a model.

    Attributes:
        images: (B, 3, H, W), uint8 out of the loader, float in [-1, 1] once normalised.
        labels: (B,) int64, -1 where there is none.
        keys: which picture each row is, for messages.
        views: other views of the same pictures (student, teacher); empty for most tasks.
        left_out: keys of pictures of an evaluation batch that could not be read; they have no row.
    """

    images: Tensor
    labels: Tensor
    keys: list[str]
    views: dict[str, Tensor] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def to(self, *args: Any, **kwargs: Any) -> "ImageBatch":
        """The same batch on another device."""
        views = {name: view.to(*args, **kwargs) for name, view in self.views.items()}
        return ImageBatch(self.images.to(*args, **kwargs), self.labels.to(*args, **kwargs), self.keys, views, self.left_out)

    def pin_memory(self) -> "ImageBatch":
        """The same batch in page-locked memory, called by the loader."""
        views = {name: view.pin_memory() for name, view in self.views.items()}
        return ImageBatch(self.images.pin_memory(), self.labels.pin_memory(), self.keys, views, self.left_out)


@dataclass(frozen=True)
class TokenBatch:
    """indices (B, N, G) int64 in [0, V), labels (B,) int64, -1 where there is none, and the layout of the tokens."""

    indices: Tensor
    labels: Tensor
    layout: TokenLayout


class Encoder(nn.Module, ABC):
    """Images to latents.

    Attributes:
        latent_dim: D.
        downsample: pixels per cell along one side; image sides must be multiples of it.
    """

    latent_dim: int
    downsample: int

    @abstractmethod
    def forward(self, images: Tensor, num_tokens: int | None = None) -> EncoderOutput:
        """(B, 3, H, W) to (B, N, D). `num_tokens` is drawn by the task where the method keeps a variable number."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draw all parameters anew, so that a part built on the meta device can be filled in."""


class Quantizer(nn.Module, ABC):
    """Latents to indices and back.

    Attributes:
        latent_dim: D.
        codebook_size: V, the same for all groups.
        groups: G, indices per token.
    """

    latent_dim: int
    codebook_size: int
    groups: int

    @property
    def bits_per_token(self) -> float:
        """G log2 V."""
        return self.groups * math.log2(self.codebook_size)

    @property
    def codes(self) -> Tensor | None:
        """(V, d) table of codes, None where a code is a formula (fsq, lfq, bsq)."""
        return None

    @abstractmethod
    def forward(self, latents: Tensor) -> QuantizerOutput:
        """(B, N, D) latents, any scale, any float dtype; look-up and losses are computed in fp32."""

    @abstractmethod
    def indices_to_latents(self, indices: Tensor) -> Tensor:
        """(B, N, G) to (B, N, D): in eval mode exactly what forward passes on, in training within 1e-6."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draw all parameters anew."""

    def entropies(self, lookup_latents: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Entropies of the soft assignment p(code | latent) = softmax(-squared distance / temperature).

        Args:
            lookup_latents: (B, N, G, d) of a `QuantizerOutput`.
            temperature: > 0.

        Returns:
            (sample, batch): mean over tokens and groups of H(p_n), and H(mean_n p_n) averaged over groups, in nats.
            The mean of p runs over the tokens of all ranks.
        """
        raise NotImplementedError(f"{type(self).__name__} has no soft assignment; set loss.weights.entropy=0")


class Decoder(nn.Module, ABC):
    """Quantized latents to an image; un-merging happens here."""

    latent_dim: int

    @property
    @abstractmethod
    def last_layer(self) -> nn.Module:
        """The layer whose weight gradients balance the adversarial loss; never sharded."""

    @abstractmethod
    def forward(self, quantized: Tensor, layout: TokenLayout) -> DecoderOutput:
        """(B, N, D) to (B, 3, H, W)."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draw all parameters anew."""


class AdversarialLoss(nn.Module, ABC):
    """What generator and discriminator want of the logits of "real": a method for each player."""

    @abstractmethod
    def generator_terms(self, fake_logits: Tensor) -> dict[str, Tensor]:
        """(B, K) logits of reconstructions to unweighted scalars; `adversarial` falls as they are taken for real."""

    @abstractmethod
    def discriminator_terms(self, real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
        """Two (B, K) to unweighted scalars; `discriminator` falls as real and fake are told apart."""


class Discriminator(nn.Module, ABC):
    """Images to logits of "real", (B, K) with all patches and heads in one row."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, K)."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
