"""The adversary against the other losses of the image: whose gradient is how long at the decoder's last layer.

Paper: Esser et al. 2021, arXiv:2012.09841, equation 7 (adaptive weight). The bounds are those of GSQ's released code, arXiv:2412.02632: the
adversarial length is at least 1e-3, and what is not a number counts as 1.
"""

import torch
from torch import Tensor

from tokenizer.layers.distributed import sum_over_ranks, world_size

SHORTEST = 1e-3


def image_leaf(reconstruction: Tensor) -> Tensor:
    """(B, 3, H, W) the same picture, cut off from what made it, in fp32 at least; the losses' gradient ends here."""
    return reconstruction.detach().to(torch.promote_types(reconstruction.dtype, torch.float32)).requires_grad_()


def slope(total: Tensor | int, leaf: Tensor) -> Tensor:
    """d(total)/d(leaf), in the shape of the leaf; 0 for a sum of no terms."""
    return torch.autograd.grad(total, leaf)[0] if isinstance(total, Tensor) else torch.zeros_like(leaf)


def last_layer_lengths(reconstruction: Tensor, weight: Tensor, slopes: list[Tensor]) -> list[Tensor]:
    """Lengths of the gradients with respect to the weight that makes the image, of the joined batch of all ranks.

    Args:
        reconstruction: (B, 3, H, W) with its graph, which stays.
        weight: of the decoder's last layer.
        slopes: gradients with respect to the reconstruction, each (B, 3, H, W).

    Returns:
        a () fp32 for each slope.
    """
    gradients = [torch.autograd.grad(reconstruction, weight, s.to(reconstruction.dtype), retain_graph=True)[0] for s in slopes]
    joined = sum_over_ranks(torch.stack(gradients).float()) / world_size()
    return list(torch.linalg.vector_norm(joined.flatten(1), dim=1).unbind())


def adaptive_weight(wanted: Tensor, adversarial: Tensor, limit: float) -> Tensor:
    """() factor that makes a gradient of length `adversarial` as long as one of length `wanted`, at most `limit`."""
    return (wanted / adversarial.clamp(min=SHORTEST)).nan_to_num(nan=1.0, posinf=limit).clamp(max=limit)
