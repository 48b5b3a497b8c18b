"""Base classes of encoders, quantizers, decoders, discriminators, adversarial losses and generators."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from tokenizer.interfaces.configurable import Configurable
from tokenizer.interfaces.values import DecoderOutput, EncoderOutput, QuantizerOutput, TokenBatch, TokenLayout, TokenSpec, TrainingPass
from tokenizer.layers.trunk import Trunk

# Sampling function: logits (R, n, K) of sub-token number s, and s, to choices (R, n) int64 in [0, K).
Pick = Callable[[Tensor, int], Tensor]


class Encoder(Configurable, ABC):
    """Maps images to latents.

    Attributes:
        latent_dim: D.
        downsample: pixels per cell along one side; image sides must be multiples of it.
        kind: kind of the token layout.
    """

    latent_dim: int
    downsample: int
    kind: Literal["raster", "sequence", "merged"] = "raster"

    @abstractmethod
    def forward(self, images: Tensor, num_tokens: int | None = None) -> EncoderOutput:
        """Encode images.

        Args:
            images: (B, 3, H, W) in [-1, 1].
            num_tokens: N, for encoders that keep a variable number of tokens; None for the default.
        """

    def num_tokens(self, grid: tuple[int, int]) -> int:
        """N of an image of (h, w) cells, unless a call asks for another number; one token per cell by default."""
        return grid[0] * grid[1]

    @abstractmethod
    def reset_parameters(self) -> None:
        """Re-initialize all parameters, also after a build on the meta device and `to_empty`."""


QUANTIZER_LOSSES = ("commitment", "codebook")  # names that `QuantizerOutput.losses` may have


class Quantizer(Configurable, ABC):
    """Maps latents to indices and back.

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
        """(V, d) table of codes, or None if codes are computed by a formula (fsq, lfq, bsq)."""
        return None

    @abstractmethod
    def forward(self, latents: Tensor) -> QuantizerOutput:
        """Quantize latents (B, N, D) of any scale and float type; lookup and losses are computed in fp32."""

    @abstractmethod
    def indices_to_latents(self, indices: Tensor) -> Tensor:
        """Quantized latents (B, N, D) of indices (B, N, G): equal to `forward`'s in eval mode, within 1e-6 in training mode.

        Raises:
            ValueError: wrong shape, or an index outside [0, V).
        """

    @abstractmethod
    def reset_parameters(self) -> None:
        """Re-initialize all parameters."""

    def entropies(self, lookup_latents: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Entropies of the soft assignment p(code | latent) = softmax(-squared distance / temperature).

        Args:
            lookup_latents: (B, N, G, d) from a `QuantizerOutput`.
            temperature: > 0.

        Returns:
            (sample, batch) in nats: the mean of H(p_n) over tokens and groups, and H(mean_n p_n) averaged over groups, where the mean
            of p is taken over the tokens of all ranks.
        """
        raise NotImplementedError(f"{type(self).__name__} has no soft assignment; set loss.weights.entropy=0")


class Decoder(Configurable, ABC):
    """Maps quantized latents to images, including the un-merging of tokens.

    Attributes:
        latent_dim: D.
        depth: number of blocks, whose outputs a call may ask for.
    """

    latent_dim: int
    depth: int

    @property
    @abstractmethod
    def last_layer(self) -> nn.Module:
        """Layer whose weight gradients determine the adaptive weight of the adversarial loss; never sharded."""

    @abstractmethod
    def forward(self, quantized: Tensor, layout: TokenLayout, taps: Sequence[int] = ()) -> DecoderOutput:
        """Decode quantized latents (B, N, D).

        Args:
            quantized: (B, N, D).
            layout: layout of the tokens.
            taps: numbers of blocks, from 1; the output of block 3 is `features["block3"]`.

        Raises:
            ValueError: there is no such block.
        """

    def require_blocks(self, taps: Sequence[int]) -> None:
        """Check that all blocks exist.

        Raises:
            ValueError: one does not.
        """
        for tap in taps:
            if not 1 <= tap <= self.depth:
                raise ValueError(f"taps={tap}, expected a block of the decoder, 1 to {self.depth}")

    @abstractmethod
    def reset_parameters(self) -> None:
        """Re-initialize all parameters."""


class TokenizerParts(Protocol):
    """The parts of an image tokenizer, for losses that read or call them."""

    encoder: Encoder
    quantizer: Quantizer
    decoder: Decoder


class InnerLoss(nn.Module, ABC):
    """A loss of the inside of a tokenizer: of features, latents, codes. Its parameters are trained with the tokenizer and not exported.

    Attributes:
        taps: numbers of the decoder's blocks whose outputs it reads, see `Decoder.forward`.
    """

    taps: tuple[int, ...] = ()

    @abstractmethod
    def forward(self, tokenizer: TokenizerParts, current: TrainingPass) -> Tensor | None:
        """Unweighted scalar; None if this update has no such term."""

    def check(self, tokenizer: TokenizerParts) -> None:
        """Check, before training, that the tokenizer has what the loss reads; nothing by default.

        Only the quantizer has weights, on the CPU and in eval mode; encoder and decoder are on the meta device.

        Raises:
            ValueError, NotImplementedError: it does not.
        """


class AdversarialLoss(nn.Module, ABC):
    """Losses of the logits of an image being real, for the generator, the discriminator, or both.

    Attributes:
        of_generator: names of the terms of the generator: `adversarial`, or the name of the loss in its configuration.
        of_discriminator: names of the terms of the discriminator: `discriminator`, or the name of the loss in its configuration.
    """

    of_generator: tuple[str, ...] = ()
    of_discriminator: tuple[str, ...] = ()

    def generator_terms(self, fake_logits: Tensor) -> dict[str, Tensor]:
        """Unweighted scalars from logits (B, K) of reconstructions; `adversarial` decreases as they increase. None by default."""
        return {}

    @abstractmethod
    def discriminator_terms(self, real_logits: Tensor, fake_logits: Tensor, real_images: Tensor, update: int) -> dict[str, Tensor]:
        """Unweighted scalars of the discriminator; `discriminator` decreases as real and fake images are separated.

        Args:
            real_logits: (B, K).
            fake_logits: (B, K).
            real_images: (B, 3, H, W) in [-1, 1]; a leaf that requires a gradient in updates in which a loss `needs_image_grad`.
            update: number of the update, counted from 1.
        """

    def needs_image_grad(self, update: int) -> bool:
        """Whether update number `update`, counted from 1, has a term that depends on gradients at the real images."""
        return False

    def end_update(self, skipped: Tensor) -> None:
        """Commit the state of the loss, unless the optimizer's step was skipped, () above 0. Nothing by default."""


class Discriminator(nn.Module, ABC):
    """Maps images to logits of being real."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of all patches and heads, from images (B, 3, H, W) in [-1, 1]."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Re-initialize all parameters."""


class Generator(Configurable, ABC):
    """Generates the indices of an image from its class, one or several tokens per step.

    A token is predicted as S sub-tokens: its G indices, each split into several parts if V is large. Guidance, temperature and
    randomness are up to the caller's `Pick`.

    Attributes:
        tokens: tokens to generate.
        heads: sizes of the S sub-vocabularies.
        width: W, channels of `features`.
        depth: number of blocks.
        blocks: the trunk.
    """

    tokens: TokenSpec
    heads: tuple[int, ...]
    width: int
    depth: int
    blocks: Trunk

    @property
    def null_label(self) -> int:
        """Label of the null class, for unconditional generation."""
        return self.tokens.num_classes

    @abstractmethod
    def nll(self, batch: TokenBatch) -> Tensor:
        """Negative log-likelihood (B, N, S) of every sub-token given all previous ones, in nats and fp32.

        Computed in chunks, so that the logits of a large vocabulary are never stored for the whole batch. In training mode classes are
        replaced by the null class at the rate of the method; a label of -1 is the null class.
        """

    @abstractmethod
    def logits(self, batch: TokenBatch) -> list[Tensor]:
        """S tensors (B, N, heads[s]) of logits behind `nll`; for tests and small vocabularies."""

    @abstractmethod
    def features(self, batch: TokenBatch, block: int) -> Tensor:
        """Residual stream (B, N, width) after block number `block`, 1 .. depth, at the positions that predict the tokens."""

    @abstractmethod
    def start(self, labels: Tensor) -> Any:
        """State before the first token of R rows.

        Args:
            labels: (R,) int64 in 0 .. num_classes; the last one is the null class.
        """

    @abstractmethod
    def step(self, state: Any, pick: Pick) -> Tensor:
        """Next tokens (R, n, G) int64 of every row, and update `state`. n = 1 in raster order, more in parallel decoding."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Re-initialize all parameters."""
