"""Base classes of the losses that see more than a reconstruction and its image."""

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor, nn

from tokenizer.interfaces.parts import Decoder, Encoder, Quantizer
from tokenizer.interfaces.values import DecoderOutput, EncoderOutput, TrainingPass


class TokenizerParts(Protocol):
    """The parts of an image tokenizer, for losses that read or call them."""

    encoder: Encoder
    quantizer: Quantizer
    decoder: Decoder


class InnerLoss(nn.Module, ABC):
    """A loss of the inside of a tokenizer: of features, latents, codes. Its parameters are trained with the tokenizer and not exported.

    Attributes:
        taps: numbers of the decoder's blocks whose outputs it reads, see `Decoder.forward`.
        couples_images: whether it is no mean over images, so that parts of a batch have other losses than the whole.
    """

    taps: tuple[int, ...] = ()
    couples_images = False

    @abstractmethod
    def forward(self, tokenizer: TokenizerParts, current: TrainingPass) -> Tensor | None:
        """Unweighted scalar; None if this update has no such term."""

    def check(self, tokenizer: TokenizerParts, image_size: int) -> None:
        """Check, before training, that the tokenizer has what the loss reads; nothing by default.

        A loss whose parameters depend on the sizes of the tokenizer makes them here. Only the quantizer has weights, on the CPU and in
        eval mode; encoder and decoder are on the meta device.

        Args:
            tokenizer: parts of the tokenizer.
            image_size: side of the images in pixels.

        Raises:
            ValueError, NotImplementedError: it does not.
        """

    def shapes(self, tokenizer: TokenizerParts, image_size: int) -> tuple[EncoderOutput, DecoderOutput]:
        """Outputs of encoder and decoder for one image on the meta device, with the taps of this loss; for `check`."""
        with torch.device("meta"):
            encoded = tokenizer.encoder(torch.empty(1, 3, image_size, image_size))
            return encoded, tokenizer.decoder(torch.empty_like(encoded.latents), encoded.layout, self.taps)


class AdversarialLoss(nn.Module, ABC):
    """Losses of the logits of an image being real, for the generator, the discriminator, or both.

    Attributes:
        of_generator: names of the terms of the generator: `adversarial`, or the name of the loss in its configuration.
        of_discriminator: names of the terms of the discriminator: `discriminator`, or the name of the loss in its configuration.
        couples_images: see `InnerLoss`.
    """

    couples_images = False

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
