"""Straight-through estimator: value of the code, gradient of the latent (Bengio et al. 2013, arXiv:1308.3432)."""

from torch import Tensor


def straight_through(latents: Tensor, quantized: Tensor) -> Tensor:
    """Exact values of `quantized` with the gradient of `latents`.

    The usual latents + (quantized - latents) adds a rounding error to the code; adding an exact zero does not. A latent that is not finite
    gives NaN, so that the error remains visible.
    """
    return quantized.detach() + (latents - latents.detach())
