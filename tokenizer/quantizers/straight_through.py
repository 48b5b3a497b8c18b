"""Straight-through estimator: the value of the code, the gradient of the latent (Bengio et al. 2013, arXiv:1308.3432)."""

from torch import Tensor


def straight_through(latents: Tensor, quantized: Tensor) -> Tensor:
    """`quantized` to the last bit, with the gradient of `latents`.

    The usual latents + (quantized - latents) rounds the code away from its table entry; adding an exact zero does not.
    A latent that is not finite gives NaN, so that the fault stays visible.
    """
    return quantized.detach() + (latents - latents.detach())
