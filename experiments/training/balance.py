"""Adaptive adversarial weight: norms of the losses' gradients at the decoder's last layer.

Paper: Esser et al. 2021, arXiv:2012.09841, equation 7 (adaptive weight). The bounds are those of GSQ's released code, arXiv:2412.02632: the
adversarial norm is at least 1e-3, and a factor that is not a number is replaced by 1.
"""

import torch
from torch import Tensor

from tokenizer.layers.distributed import sum_over_ranks, world_size

SMALLEST_NORM = 1e-3


def detached_image(reconstruction: Tensor) -> Tensor:
    """(B, 3, H, W) the same image as a leaf that requires a gradient, in fp32 at least; the losses' gradient ends here."""
    return reconstruction.detach().to(torch.promote_types(reconstruction.dtype, torch.float32)).requires_grad_()


def image_grad(total: Tensor | int, image: Tensor) -> Tensor:
    """d(total)/d(image), in the shape of the image; 0 for a sum of no terms."""
    return torch.autograd.grad(total, image)[0] if isinstance(total, Tensor) else torch.zeros_like(image)


def last_layer_norms(reconstruction: Tensor, weight: Tensor, image_grads: list[Tensor]) -> list[Tensor]:
    """Norms of the gradients at the weight of the last layer, of the joined batch of all ranks.

    Args:
        reconstruction: (B, 3, H, W) with its graph, which is retained.
        weight: weight of the decoder's last layer.
        image_grads: gradients at the reconstruction, each (B, 3, H, W).

    Returns:
        one () fp32 for each gradient.
    """
    gradients = [torch.autograd.grad(reconstruction, weight, g.to(reconstruction.dtype), retain_graph=True)[0] for g in image_grads]
    joined = sum_over_ranks(torch.stack(gradients).float()) / world_size()
    return list(torch.linalg.vector_norm(joined.flatten(1), dim=1).unbind())


def adaptive_weight(target_norm: Tensor, adversarial_norm: Tensor, limit: float) -> Tensor:
    """() factor that scales a gradient of norm `adversarial_norm` to `target_norm`, at most `limit`."""
    return (target_norm / adversarial_norm.clamp(min=SMALLEST_NORM)).nan_to_num(nan=1.0, posinf=limit).clamp(max=limit)
