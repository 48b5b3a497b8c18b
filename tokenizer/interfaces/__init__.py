"""Shared interfaces: base classes of all parts, and the dataclasses that they exchange.

Axis letters everywhere: B batch, H W pixels, C channels, L cells of the image's grid, N tokens after any merging, D latent width,
G groups (indices per token), d = D/G channels per group, V codebook size, W transformer width, R rows being sampled.

Tensors between parts are tokens with channels last, (B, N, D). Indices are (B, N, G) int64. Images are (B, 3, H, W), nominally in
[-1, 1]; reconstructions are not clamped.
"""

from tokenizer.interfaces.configurable import Configurable
from tokenizer.interfaces.losses import AdversarialLoss, InnerLoss, TokenizerParts
from tokenizer.interfaces.parts import QUANTIZER_LOSSES, Decoder, Discriminator, Encoder, Generator, Pick, Quantizer
from tokenizer.interfaces.values import (
    DecoderOutput,
    EncoderOutput,
    ImageBatch,
    QuantizerOutput,
    TokenBatch,
    TokenizerOutput,
    TokenLayout,
    TokenSpec,
    TrainingPass,
)

__all__ = [
    "QUANTIZER_LOSSES",
    "AdversarialLoss",
    "Configurable",
    "Decoder",
    "DecoderOutput",
    "Discriminator",
    "Encoder",
    "EncoderOutput",
    "Generator",
    "ImageBatch",
    "InnerLoss",
    "Pick",
    "Quantizer",
    "QuantizerOutput",
    "TokenBatch",
    "TokenLayout",
    "TokenSpec",
    "TokenizerOutput",
    "TokenizerParts",
    "TrainingPass",
]
