"""Image tokenizer: encoder, quantizer and decoder, from images to indices and back."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tokenizer.interfaces import Decoder, DecoderOutput, Encoder, Quantizer, QuantizerOutput, TokenizerOutput, TokenLayout, TokenSpec
from tokenizer.layers.checks import require_images, require_range
from tokenizer.pretrained import Pretrained


class ImageTokenizer(Pretrained):
    """Encoder, quantizer and decoder of the same latent width.

    Args:
        encoder: encoder.
        quantizer: quantizer.
        decoder: decoder.

    Raises:
        ValueError: the latent widths differ.
    """

    def __init__(self, encoder: Encoder, quantizer: Quantizer, decoder: Decoder) -> None:
        super().__init__()
        widths = {"encoder": encoder.latent_dim, "quantizer": quantizer.latent_dim, "decoder": decoder.latent_dim}
        if len(set(widths.values())) > 1:
            raise ValueError(f"latent_dim differs between the parts: {widths}")
        self.encoder = encoder
        self.quantizer = quantizer
        self.decoder = decoder

    def forward(self, images: Tensor, num_tokens: int | None = None, taps: Sequence[int] = ()) -> TokenizerOutput:
        """Outputs of all three parts; `taps` are those of `Decoder.forward`, the other arguments and errors those of `encode`.

        The range of values is not checked, as in training the host must not wait for it.
        """
        encoded = self.encoder(self._checked(images), num_tokens)
        quantized = self.quantizer(encoded.latents)
        return TokenizerOutput(encoded, quantized, self.decode(quantized.quantized, encoded.layout, taps))

    def encode(self, images: Tensor, num_tokens: int | None = None) -> tuple[QuantizerOutput, TokenLayout]:
        """Quantizer output and token layout.

        Args:
            images: (B, 3, H, W) of any float type, nominally in [-1, 1].
            num_tokens: see `Encoder.forward`.

        Raises:
            ValueError: wrong shape or type, values that are far outside [-1, 1] (on a CUDA device an assertion of the device), or a side
                that is not a multiple of the downsampling factor.
        """
        images = self._checked(images)
        require_range(images)
        encoded = self.encoder(images, num_tokens)
        return self.quantizer(encoded.latents), encoded.layout

    def decode(self, quantized: Tensor, layout: TokenLayout, taps: Sequence[int] = ()) -> DecoderOutput:
        """Decoder output for quantized latents (B, N, D) of any float type."""
        output: DecoderOutput = self.decoder(quantized.to(_dtype(self.decoder, quantized)), layout, taps)
        return output

    def decode_indices(self, indices: Tensor, layout: TokenLayout) -> Tensor:
        """Images (B, 3, H, W), nominally in [-1, 1], for indices (B, N, G).

        Raises:
            ValueError: merged tokens without an assignment.
        """
        if layout.kind == "merged" and layout.assignment is None:
            raise ValueError("layout.assignment=None, expected the token of each cell: merged tokens cannot be decoded without it")
        return self.decode(self.quantizer.indices_to_latents(indices), layout).reconstruction

    def _checked(self, images: Tensor) -> Tensor:
        """Images in the encoder's type, after a check of their shape, type and sides."""
        require_images(images)
        self.grid((images.shape[-2], images.shape[-1]))
        return images.to(_dtype(self.encoder, images))

    def reset_parameters(self) -> None:
        """Re-initialize all parameters."""
        for part in (self.encoder, self.quantizer, self.decoder):
            part.reset_parameters()

    def grid(self, image_size: int | tuple[int, int]) -> tuple[int, int]:
        """Grid (h, w) of cells of an image size in pixels.

        Raises:
            ValueError: a side is not a multiple of the downsampling factor, or the encoder makes no tokens of such a grid.
        """
        sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        step = self.encoder.downsample
        for side in sides:
            if side % step or side < step:
                lower = max(step, side // step * step)
                nearest = f"{lower} or {lower + step}" if side > step else f"{step}"
                raise ValueError(f"image_size={side} is not a multiple of {step}, this tokenizer's pixels per token; nearest: {nearest}")
        grid = sides[0] // step, sides[1] // step
        self.encoder.num_tokens(grid)
        return grid

    def num_tokens(self, image_size: int | tuple[int, int]) -> int:
        """Number of tokens of an image size in pixels."""
        return self.encoder.num_tokens(self.grid(image_size))

    def tokens(self, image_size: int | tuple[int, int], num_classes: int = 0, num_tokens: Sequence[int] = ()) -> TokenSpec:
        """Specification of the tokens of an image size, for a generator.

        Args:
            image_size: side, or height and width, in pixels.
            num_classes: number of classes of the images; 0 for unlabeled images.
            num_tokens: numbers of tokens that the images are encoded with, not checked; empty for the encoder's own number.
        """
        quantizer, kind = self.quantizer, self.encoder.kind
        counts = sorted(set(num_tokens)) or [self.num_tokens(image_size)]
        kept = tuple(counts) if kind == "merged" else ()
        return TokenSpec(quantizer.codebook_size, quantizer.groups, counts[-1], self.grid(image_size), kind, num_classes, kept)


def _dtype(part: nn.Module, inputs: Tensor) -> torch.dtype:
    """Float type of the weights of a part, that of its inputs if it has none."""
    return next((parameter.dtype for parameter in part.parameters()), inputs.dtype)
