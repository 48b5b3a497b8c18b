"""The nearest code by sorting: codes on a line or on the unit circle, as in grouped spherical quantization with one or two channels
per group (arXiv:2412.02632).
"""

import torch
from torch import Tensor


def nearest_1d(points: Tensor, codes: Tensor, ties: str) -> Tensor:
    """(n,) and (V,) to (n,): binary search in the sorted codes.

    Equal codes are neighbors after sorting, and so are the codes to the left and right of a point halfway between them: all nearest
    codes form one range. Distances are compared in float64.
    """
    values, order = codes.sort(stable=True)
    points = points.contiguous()  # as searchsorted needs them
    last = len(codes) - 1
    right = torch.searchsorted(values, points).clamp(max=last)
    left = (right - 1).clamp(min=0)
    exact = points.double()
    to_left, to_right = (exact - values[left]).abs(), (exact - values[right]).abs()
    starts = torch.arange(len(codes), device=codes.device)
    starts[1:].masked_fill_(values[1:] == values[:-1], 0)
    first = starts.cummax(0).values  # place of the first of the codes that are equal to each
    first_left, first_right = first[left], first[right]
    if ties == "random":
        begin = torch.where(to_left <= to_right, first_left, first_right)
        end = torch.searchsorted(values, values[torch.where(to_right <= to_left, right, left)], right=True)
        drawn = begin + (torch.rand_like(points) * (end - begin)).long()
        return order[drawn.clamp(0, last)]
    lowest_left = order[first_left].masked_fill(to_left > to_right, last)
    lowest_right = order[first_right].masked_fill(to_right > to_left, last)
    return torch.minimum(lowest_left, lowest_right)


def nearest_on_circle(points: Tensor, codes: Tensor) -> Tensor:
    """(n, 2) and (V, 2), all of length 1, to (n,): the lowest index among the nearest of two distinct neighbors by angle on each side.

    One neighbor per side would suffice for exact lengths; the second covers codes that are closer together than the rounding errors of
    their lengths.
    """
    size = len(codes)
    values, order = torch.atan2(codes[:, 1], codes[:, 0]).sort(stable=True)
    first, behind = torch.searchsorted(values, values).clamp(max=size - 1), torch.searchsorted(values, values, right=True)
    position = torch.searchsorted(values, torch.atan2(points[:, 1], points[:, 0]))
    right, left = position % size, first[(position - 1) % size]
    candidates = order[torch.stack([first[(left - 1) % size], left, right, behind[right] % size], 1)]
    distances = (points[:, None] - codes[candidates]).square().sum(-1)
    nearest = distances == distances.amin(1, keepdim=True)
    return candidates.masked_fill(~nearest, size - 1).amin(1)
