"""Checks of the tensors that quantizers receive."""

import torch
from torch import Tensor

MAXIMUM_BITS = 62  # of an index; an int64 has 63 bits besides the sign


def require_width(latents: Tensor, latent_dim: int) -> None:
    """Refuse all shapes but (B, N, latent_dim)."""
    if latents.dim() != 3 or latents.shape[-1] != latent_dim:
        raise ValueError(f"latents are {tuple(latents.shape)}, expected (B, N, {latent_dim}); does the encoder use the same latent_dim?")


def require_indices(indices: Tensor, groups: int, codebook_size: int) -> Tensor:
    """Indices as int64, after a check of their shape, type and range.

    On a CUDA device the range is checked by a device-side assertion, so that the host does not wait for the device.

    Args:
        indices: (B, N, groups) of any integer type in [0, codebook_size).
        groups: G.
        codebook_size: V.

    Raises:
        ValueError: wrong shape or type, or an index out of range.
    """
    wrong_type = indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool
    if wrong_type or indices.dim() != 3 or indices.shape[-1] != groups:
        raise ValueError(f"indices are {tuple(indices.shape)} of {indices.dtype}, expected integers (B, N, {groups})")
    indices = indices.long()
    if indices.is_cuda:
        torch._assert_async(((indices >= 0) & (indices < codebook_size)).all(), f"an index is out of range 0 to {codebook_size - 1}")
    elif indices.numel() and not indices.is_meta:
        for index in (int(indices.min()), int(indices.max())):
            if not 0 <= index < codebook_size:
                raise ValueError(
                    f"index {index} is out of range, expected 0 to {codebook_size - 1}; do the indices belong to this codebook?"
                )
    return indices
