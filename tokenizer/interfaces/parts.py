"""Base classes of encoders, quantizers, decoders, discriminators and generators."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from tokenizer.interfaces.configurable import Configurable
from tokenizer.interfaces.values import DecoderOutput, EncoderOutput, QuantizerOutput, TokenBatch, TokenLayout, TokenSpec
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

    def require_num_tokens(self, num_tokens: int | None, grid: tuple[int, int]) -> None:
        """Check the number that a call asks for, in encoders that have no other than their own.

        Raises:
            ValueError: it is another number.
        """
        if num_tokens not in (None, self.num_tokens(grid)):
            raise ValueError(f"num_tokens={num_tokens}, but this encoder returns {self.num_tokens(grid)} tokens; leave it unset")

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
        """Quantize latents (B, N, D) of any scale and float type.

        Lookup and losses are computed in fp32, or in float64 if the latents or the codes are; `quantized` has the type of the latents.
        """

    @abstractmethod
    def indices_to_latents(self, indices: Tensor) -> Tensor:
        """Quantized latents (B, N, D) of indices (B, N, G): equal to `forward`'s in eval mode, within 1e-6 in training mode.

        They have the type of the codebook, fp32 without one.

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

    def require_raster(self, quantized: Tensor, layout: TokenLayout) -> None:
        """Check that there is one token a cell, in raster order.

        Raises:
            ValueError: there is not.
        """
        rows, columns = layout.grid
        if layout.kind != "raster" or rows * columns != quantized.shape[1]:
            raise ValueError(
                f"this decoder needs one token per cell; got {quantized.shape[1]} tokens of kind {layout.kind} for {rows} x {columns} "
                "cells; choose the decoder that belongs to the encoder under backbone"
            )

    @abstractmethod
    def reset_parameters(self) -> None:
        """Re-initialize all parameters."""


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
