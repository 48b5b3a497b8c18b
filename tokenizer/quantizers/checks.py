"""Checks of the tensors that quantizers receive."""

from torch import Tensor

MAXIMUM_BITS = 62  # of an index; an int64 has 63 bits besides the sign


def require_width(latents: Tensor, latent_dim: int) -> None:
    """Refuse all shapes but (B, N, latent_dim)."""
    if latents.dim() != 3 or latents.shape[-1] != latent_dim:
        raise ValueError(f"latents are {tuple(latents.shape)}, expected (B, N, {latent_dim}); does the encoder use the same latent_dim?")
