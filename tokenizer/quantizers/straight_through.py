"""Straight-through estimator: value of the code, gradient of the latent (Bengio et al. 2013, arXiv:1308.3432)."""

from typing import Any

import torch
from torch import Tensor


def straight_through(latents: Tensor, quantized: Tensor) -> Tensor:
    """Exact values of `quantized` with the gradient of `latents`.

    The usual latents + (quantized - latents) adds a rounding error to the code; adding an exact zero does not. A latent that is not finite
    gives NaN, so that the error remains visible.
    """
    return with_gradient_of(latents, torch.add(quantized.detach(), latents.detach(), alpha=0))


def with_gradient_of(latents: Tensor, values: Tensor) -> Tensor:
    """`values` unchanged, with the gradient of `latents` if they have one."""
    if not latents.requires_grad:
        return values
    output: Tensor = _GradientOfLatents.apply(latents, values)
    return output


class _GradientOfLatents(torch.autograd.Function):
    """The second input, without a copy; the gradient is that of the first."""

    generate_vmap_rule = True

    @staticmethod
    def forward(latents: Tensor, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
