"""The nearest code, exactly, without ever holding all distances.

One look-up serves every codebook. A first pass scores x.e - |e|^2/2 in fp32, tile by tile, and keeps only the maximum of each
block of 32 codes: an arg-max over everything is several times slower than a maximum, and an n x V array costs more than its
arithmetic. Codes run down the rows of a tile, because a product with few channels is fastest that way round. Rows in which a
second code lies within the rounding error of the first are decided again in float64, which also finds ties. Codes on a line or
on the unit circle are sorted instead (grouped spherical quantization with one or two channels a group, arXiv:2412.02632).
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
from torch import Tensor

from tokenizer.layers.checks import require_one_of
from tokenizer.layers.precision import full_precision

Ties = Literal["lowest", "random"]
Result = TypeVar("Result")

BLOCK = 32
SORT_FROM_ROWS = 32  # below that sorting the codebook costs more than it saves
PARALLEL_FROM_SCORES = 2**22
UNIT_ROUNDOFF = 2.0**-24
CLOSE_ROWS = 256  # of one call that an accelerator decides in float64


def scratch_floats(device: torch.device) -> int:
    """Floats that one temporary array may hold: what stays in a CPU's cache, or what fills an accelerator."""
    return 2**20 if device.type == "cpu" else 2**26


def waits_for_nobody(device: torch.device) -> bool:
    """Whether the host may read how many rows there are: on an accelerator it would wait for the device in every training step."""
    return device.type == "cpu"


def nearest_code(latents: Tensor, codebook: Tensor, ties: Ties = "lowest", unit_length: bool = False) -> Tensor:
    """Index of the code with the smallest squared Euclidean distance, as a float64 brute force finds it.

    On an accelerator that holds for the first 256 rows of a call whose best codes lie within fp32's rounding error of each other; any
    more such rows keep the fp32 choice.

    Args:
        latents: (..., d), compared as fp32. A row that is not finite gets some valid index.
        codebook: (V, d), compared as fp32.
        ties: among codes at exactly the same distance, the lowest index or a uniformly drawn one.
        unit_length: all latents and codes have length 1 up to rounding; lets d = 2 use sorted angles.

    Returns:
        (...) int64 in [0, V).

    Raises:
        ValueError: the last dimensions differ, or an unknown `ties`.
    """
    require_one_of("ties", ties, ("lowest", "random"))
    if latents.shape[-1] != codebook.shape[-1]:
        raise ValueError(f"latents have {latents.shape[-1]} channels, codes have {codebook.shape[-1]}; is latent_dim divisible by groups?")
    with torch.no_grad(), full_precision(latents.device), _one_core_each(latents.device) as cores:
        rows, codes = latents.detach().reshape(-1, latents.shape[-1]).float(), codebook.detach().float()
        worth_sorting = len(rows) >= SORT_FROM_ROWS
        if worth_sorting and codes.shape[1] == 1:
            indices = _on_the_line(rows[:, 0].double(), codes[:, 0].double(), ties)
        elif worth_sorting and codes.shape[1] == 2 and unit_length and ties == "lowest":
            indices = _on_the_circle(rows.double(), codes.double())
        else:
            indices = _streamed(rows, codes, ties, cores)
        return indices.view(latents.shape[:-1])


def _streamed(rows: Tensor, codes: Tensor, ties: Ties, cores: int) -> Tensor:
    """(n, d) and (V, d) to (n,): fp32 scores in tiles, float64 where they cannot decide."""
    bias = -0.5 * codes.square().sum(1)
    longest = (-2 * bias.min()).sqrt()
    shares = cores if len(rows) * len(codes) >= PARALLEL_FROM_SCORES else 1
    parts = torch.split(rows, max(1, -(-len(rows) // shares)))
    results = _on_all_cores(lambda part: _scan(part, codes, bias, longest), parts)
    indices, uncertain = (torch.cat(values) for values in zip(*results, strict=True))
    # Padding repeats row 0, which is decided again to the same code.
    undecided = uncertain.nonzero() if waits_for_nobody(rows.device) else torch.nonzero_static(uncertain, size=CLOSE_ROWS, fill_value=0)
    if len(undecided):
        undecided = undecided.squeeze(1)
        indices[undecided] = _brute_force(rows[undecided], codes, ties)
    return indices


def _on_all_cores(work: Callable[[Tensor], Result], parts: Sequence[Tensor]) -> list[Result]:
    """`work` on each part, each on one core of its own."""
    if len(parts) == 1:
        return [work(parts[0])]
    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(work, parts))


@contextmanager
def _one_core_each(device: torch.device) -> Iterator[int]:
    """Single-threaded operations in this thread and in threads started meanwhile; yields the number of cores to share out.

    Cores that share every small operation wait for each other more than they compute as soon as one has something else to do.
    """
    if device.type != "cpu":
        yield 1
        return
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield cores
    finally:
        torch.set_num_threads(cores)


@torch.no_grad()
def _scan(rows: Tensor, codes: Tensor, bias: Tensor, longest: Tensor) -> tuple[Tensor, Tensor]:
    """The best code of each row in fp32, and whether rounding could have hidden a better one."""
    indices = torch.empty(len(rows), dtype=torch.long, device=rows.device)
    uncertain = torch.empty(len(rows), dtype=torch.bool, device=rows.device)
    blocks, scratch = -(-len(codes) // BLOCK), scratch_floats(rows.device)
    step = max(1, min(len(rows), scratch // blocks, scratch // 2048, 2 * scratch // (BLOCK * codes.shape[1])))
    tile = torch.empty(min(blocks, max(1, scratch // (step * BLOCK))) * BLOCK * step, device=rows.device)
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step]
        # Twice the worst rounding error of a score: d products, their sum, and the bias.
        margin = 2 * (codes.shape[1] + 2) * UNIT_ROUNDOFF * longest * (chunk.norm(dim=1) + longest / 2)
        maxima = _block_maxima(chunk, codes, bias, tile)
        best, block = maxima.max(0)
        close_blocks = (maxima >= best - margin).sum(0)
        indices[start : start + step], close_codes = _inside_block(chunk, codes, bias, block, margin)
        uncertain[start : start + step] = close_blocks + close_codes > 2
    return indices, uncertain


def _block_maxima(chunk: Tensor, codes: Tensor, bias: Tensor, tile: Tensor) -> Tensor:
    """(blocks, n): the largest score of each row within each block of codes. `tile` is overwritten."""
    rows = len(chunk)
    codes_per_tile = len(tile) // rows // BLOCK * BLOCK
    maxima = chunk.new_empty(-(-len(codes) // BLOCK), rows)
    for first in range(0, len(codes), codes_per_tile):
        part = codes[first : first + codes_per_tile]
        blocks = -(-len(part) // BLOCK)
        scores = tile[: blocks * BLOCK * rows].view(blocks * BLOCK, rows)
        torch.addmm(bias[first : first + len(part), None], part, chunk.t(), out=scores[: len(part)])
        scores[len(part) :] = -torch.inf
        torch.amax(scores.view(blocks, BLOCK, rows), 1, out=maxima[first // BLOCK : first // BLOCK + blocks])
    return maxima


def _inside_block(chunk: Tensor, codes: Tensor, bias: Tensor, block: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
    """The best code of one block for each row, and how many of the block's codes come within `margin` of it."""
    members = block[:, None] * BLOCK + torch.arange(BLOCK, device=block.device)
    beyond = members >= len(codes)
    members = members.clamp_(max=len(codes) - 1)
    gathered = codes.index_select(0, members.flatten()).view(*members.shape, -1)
    scores = torch.baddbmm(bias.take(members).unsqueeze(2), gathered, chunk.unsqueeze(2)).squeeze(2)
    best, inner = scores.masked_fill_(beyond, -torch.inf).max(1)
    return members.gather(1, inner[:, None]).squeeze(1), (scores >= (best - margin)[:, None]).sum(1)


def _brute_force(rows: Tensor, codes: Tensor, ties: Ties) -> Tensor:
    """(n, d) and (V, d) to (n,) from differences in float64, some rows at a time."""
    indices = []
    for chunk in torch.split(rows, max(1, scratch_floats(rows.device) // 2 // len(codes))):
        distances = torch.zeros(len(chunk), len(codes), dtype=torch.double, device=rows.device)
        for channel in range(codes.shape[1]):
            difference = chunk[:, channel, None].double() - codes[:, channel].double()
            distances.addcmul_(difference, difference)
        if ties == "random":
            nearest = distances == distances.amin(1, keepdim=True)
            distances = -torch.rand_like(distances).add_(1).mul_(nearest)
        indices.append(distances.argmin(1))
    return torch.cat(indices)


def _on_the_line(points: Tensor, codes: Tensor, ties: Ties) -> Tensor:
    """(n,) and (V,) to (n,): binary search among the sorted codes.

    Equal codes are neighbours once sorted, and so are the codes left and right of a point that lies midway: all
    nearest codes form one range.
    """
    values, order = codes.sort(stable=True)
    last = len(codes) - 1
    right = torch.searchsorted(values, points).clamp(max=last)
    left = (right - 1).clamp(min=0)
    to_left, to_right = (points - values[left]).abs(), (points - values[right]).abs()
    first = torch.searchsorted(values, values).clamp(max=last)
    first_left, first_right = first[left], first[right]
    if ties == "random":
        begin = torch.where(to_left <= to_right, first_left, first_right)
        end = torch.searchsorted(values, values[torch.where(to_right <= to_left, right, left)], right=True)
        drawn = begin + (torch.rand_like(points) * (end - begin)).long()
        return order[drawn.clamp(0, last)]
    lowest_left = order[first_left].masked_fill(to_left > to_right, last)
    lowest_right = order[first_right].masked_fill(to_right > to_left, last)
    return torch.minimum(lowest_left, lowest_right)


def _on_the_circle(points: Tensor, codes: Tensor) -> Tensor:
    """(n, 2) and (V, 2), all of length 1, to (n,): two distinct neighbours on each side by angle, then their true distances.

    One neighbour a side would do for exact lengths; the second covers codes closer together than the rounding of their lengths.
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
