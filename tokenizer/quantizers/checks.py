"""What every quantizer asks of its arguments and of the latents it is given."""

from collections.abc import Iterable

from torch import Tensor

MAXIMUM_BITS = 62  # of an index: int64 with room to spare


def require_at_least(key: str, value: int, minimum: int) -> None:
    """Refuse a count below `minimum`, naming the configuration key."""
    if value < minimum:
        raise ValueError(f"{key}={value}, expected at least {minimum}; change {key}")


def require_one_of(key: str, value: str, choices: Iterable[str]) -> None:
    """Refuse an unknown choice, naming the configuration key."""
    if value not in choices:
        raise ValueError(f"{key}={value}, expected one of {', '.join(choices)}; change {key}")


def require_width(latents: Tensor, latent_dim: int) -> None:
    """Refuse anything but (B, N, latent_dim)."""
    if latents.dim() != 3 or latents.shape[-1] != latent_dim:
        raise ValueError(f"latents are {tuple(latents.shape)}, expected (B, N, {latent_dim}); does the encoder use the same latent_dim?")


def require_indices(indices: Tensor, groups: int) -> None:
    """Refuse anything but (B, N, groups)."""
    if indices.dim() != 3 or indices.shape[-1] != groups:
        raise ValueError(f"indices are {tuple(indices.shape)}, expected (B, N, {groups})")
