"""Visual tokenizers in pure torch: encoders, quantizers, decoders, discriminators and losses.

Axis letters everywhere: B batch, H W pixels, C channels, L cells before merging, N kept tokens, D latent width,
G groups, d = D/G channels per group, V codebook size.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizer.image_tokenizer import ImageTokenizer

__all__ = ["ImageTokenizer"]


def __getattr__(name: str) -> Any:
    """Import torch only when something is used: `tokenizer.weights` is read where start-up must be fast."""
    if name == "ImageTokenizer":
        from tokenizer.image_tokenizer import ImageTokenizer

        return ImageTokenizer
    raise AttributeError(f"module 'tokenizer' has no attribute {name!r}")
