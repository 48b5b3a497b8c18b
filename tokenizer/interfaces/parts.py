"""What each part promises: encoders, quantizers, decoders, discriminators, adversarial losses and generators."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

from tokenizer.interfaces.configurable import Configurable
from tokenizer.interfaces.values import DecoderOutput, EncoderOutput, QuantizerOutput, TokenBatch, TokenLayout, TokenSpec

Pick = Callable[[Tensor, int], Tensor]
"""A sampling function: logits (R, n, K) of sub-token s, and s, to choices (R, n) int64 in [0, K)."""


class Encoder(Configurable, ABC):
    """Images to latents.

    Attributes:
        latent_dim: D.
        downsample: pixels per cell along one side; image sides must be multiples of it.
        kind: of the layout of its tokens.
    """

    latent_dim: int
    downsample: int
    kind: Literal["raster", "sequence", "merged"] = "raster"

    @abstractmethod
    def forward(self, images: Tensor, num_tokens: int | None = None) -> EncoderOutput:
        """(B, 3, H, W) to (B, N, D). `num_tokens` is drawn by the task where the method keeps a variable number."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draw all parameters anew, so that a part built on the meta device can be filled in."""


class Quantizer(Configurable, ABC):
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


class Decoder(Configurable, ABC):
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


class Generator(Configurable, ABC):
    """Classes to indices, one token a step or a few. Guidance, temperature and randomness are the caller's, in `Pick`.

    A token is written as S sub-tokens: its G indices, or each of them split in several where V is large.

    Attributes:
        tokens: what is generated.
        heads: sizes of the S sub-vocabularies.
        width: channels of `features`.
        depth: blocks.
        blocks: the trunk, alike but for their weights.
    """

    tokens: TokenSpec
    heads: tuple[int, ...]
    width: int
    depth: int
    blocks: nn.ModuleList

    @property
    def null_label(self) -> int:
        """The label that stands for no condition."""
        return self.tokens.num_classes

    def compile_blocks(self) -> None:
        """Let torch compile the blocks, for training and for steps. Names of parameters stay; rounding and the draws of dropout change."""
        for block in self.blocks:
            block.compile()

    @abstractmethod
    def nll(self, batch: TokenBatch) -> Tensor:
        """(B, N, S) negative log-likelihood of every sub-token given all before it, in nats, fp32.

        Computed in pieces: the logits of a large vocabulary never exist for the whole batch. In training mode classes are dropped
        at the method's rate; a label of -1 is the null class.
        """

    @abstractmethod
    def logits(self, batch: TokenBatch) -> list[Tensor]:
        """The same as S tensors (B, N, heads[s]) of logits; for tests and small vocabularies."""

    @abstractmethod
    def features(self, batch: TokenBatch, block: int) -> Tensor:
        """(B, N, width), the residual stream after block number `block` (1 .. depth) where each token is predicted."""

    @abstractmethod
    def start(self, labels: Tensor) -> Any:
        """The state before the first token of R rows with these labels (R,) in 0 .. num_classes; the last one is the null class."""

    @abstractmethod
    def step(self, state: Any, pick: Pick) -> Tensor:
        """The next tokens (R, n, G) int64 of every row; `state` moves on. n = 1 in raster order, more in parallel decoding."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
