"""Precision and recall of two sets of features, by balls around features that reach to the third neighbor.

Paper: Kynkäänniemi et al. 2019, arXiv:1904.06991, section 3; k = 3 as there and in the evaluation of ADM (arXiv:2105.05233).
Deviation: distances are float64, so that a point on a ball's surface is inside for certain; the features are used as they are.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

TILE = (2048, 8192)  # rows and columns of one block of distances: 128 MiB in float64
ROUNDING = 1e-12  # change of a squared distance by summing in another order, in units of the largest squared length


def precision_recall(generated: Tensor, reference: Tensor, neighbors: int) -> tuple[float, float]:
    """Share of generated features inside the reference's balls, and of reference features inside the generated ones'.

    Args:
        generated: (M, F), computed where it is, in blocks.
        reference: (R, F), on the same device.
        neighbors: k; a point's ball reaches to its k-th nearest neighbor in its own set, surface included.

    Raises:
        ValueError: the widths differ, or a set has no more than k features.
    """
    if generated.shape[1] != reference.shape[1]:
        raise ValueError(f"generated features have the width {generated.shape[1]}, reference features {reference.shape[1]}")
    for name, features in {"generated": generated, "reference": reference}.items():
        if len(features) <= neighbors:
            raise ValueError(f"{len(features)} {name} features are too few: a ball to neighbor {neighbors} needs more than {neighbors}")
    center = reference.mean(0, dtype=torch.float64)  # shorter vectors, smaller rounding errors
    parts = [*torch.split(generated, TILE[1]), *torch.split(reference, TILE[1])]
    slack = ROUNDING * max(_squared_lengths(part.double() - center).max() for part in parts)
    generated_radii = squared_radii(generated, neighbors, center) + slack
    reference_radii = squared_radii(reference, neighbors, center) + slack
    in_reference = torch.zeros(len(generated), dtype=torch.bool, device=generated.device)
    in_generated = torch.zeros(len(reference), dtype=torch.bool, device=reference.device)
    for rows, columns, distances in _tiles(generated, reference, center):
        in_reference[rows] |= (distances <= reference_radii[columns]).any(1)
        in_generated[columns] |= (distances <= generated_radii[rows, None]).any(0)
    return float(in_reference.double().mean()), float(in_generated.double().mean())


def squared_radii(features: Tensor, neighbors: int, center: Tensor) -> Tensor:
    """(n,) float64 squared distance of every one of (n, F) features to its k-th nearest neighbor, itself not counted."""
    nearest = torch.full((len(features), neighbors + 1), torch.inf, dtype=torch.float64, device=features.device)
    for rows, _, distances in _tiles(features, features, center):  # a point is its own nearest, so one more than k are stored
        found = distances.topk(min(neighbors + 1, distances.shape[1]), largest=False, sorted=False).values
        nearest[rows] = torch.cat([nearest[rows], found], 1).topk(neighbors + 1, largest=False).values
    return nearest[:, -1]


def _tiles(one: Tensor, other: Tensor, center: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows, columns and (rows, columns) float64 squared distances, block by block."""
    for top in range(0, len(one), TILE[0]):
        rows = slice(top, top + TILE[0])
        upper = one[rows].double() - center
        for left in range(0, len(other), TILE[1]):
            columns = slice(left, left + TILE[1])
            lower = other[columns].double() - center
            distances = torch.addmm(_squared_lengths(lower)[None], upper, lower.T, alpha=-2)
            yield rows, columns, distances.add_(_squared_lengths(upper)[:, None])


def _squared_lengths(features: Tensor) -> Tensor:
    return features.square().sum(1)
