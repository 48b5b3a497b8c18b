"""Image tokenizer: encoder, quantizer and decoder, from images to indices and back."""

from collections.abc import Sequence

from torch import Tensor

from tokenizer.interfaces import Decoder, DecoderOutput, Encoder, Quantizer, QuantizerOutput, TokenizerOutput, TokenLayout, TokenSpec
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
        """Outputs of all three parts for images (B, 3, H, W) in [-1, 1]; `taps` are those of `Decoder.forward`."""
        self.grid((images.shape[-2], images.shape[-1]))
        encoded = self.encoder(images, num_tokens)
        quantized = self.quantizer(encoded.latents)
        return TokenizerOutput(encoded, quantized, self.decoder(quantized.quantized, encoded.layout, taps))

    def encode(self, images: Tensor, num_tokens: int | None = None) -> tuple[QuantizerOutput, TokenLayout]:
        """Quantizer output and token layout for images (B, 3, H, W) in [-1, 1]."""
        self.grid((images.shape[-2], images.shape[-1]))
        encoded = self.encoder(images, num_tokens)
        return self.quantizer(encoded.latents), encoded.layout

    def decode(self, quantized: Tensor, layout: TokenLayout) -> DecoderOutput:
        """Decoder output for quantized latents (B, N, D)."""
        output: DecoderOutput = self.decoder(quantized, layout)
        return output

    def decode_indices(self, indices: Tensor, layout: TokenLayout) -> Tensor:
        """Images (B, 3, H, W), nominally in [-1, 1], for indices (B, N, G).

        Raises:
            ValueError: merged tokens without an assignment.
        """
        if layout.kind == "merged" and layout.assignment is None:
            raise ValueError("layout.assignment=None, expected the token of each cell: merged tokens cannot be decoded without it")
        return self.decode(self.quantizer.indices_to_latents(indices), layout).reconstruction

    def reset_parameters(self) -> None:
        """Re-initialize all parameters."""
        for part in (self.encoder, self.quantizer, self.decoder):
            part.reset_parameters()

    def grid(self, image_size: int | tuple[int, int]) -> tuple[int, int]:
        """Grid (h, w) of cells of an image size in pixels.

        Raises:
            ValueError: a side is not a multiple of the downsampling factor.
        """
        sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        step = self.encoder.downsample
        for side in sides:
            if side % step or side < step:
                lower = max(step, side // step * step)
                nearest = f"{lower} or {lower + step}" if side > step else f"{step}"
                raise ValueError(f"image_size={side} is not a multiple of {step}, this tokenizer's pixels per token; nearest: {nearest}")
        return sides[0] // step, sides[1] // step

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
