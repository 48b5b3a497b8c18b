"""The nearest code, exactly, without storing all distances.

One function for every codebook. A first pass computes scores x.e - |e|^2/2 in fp32, tile by tile, and keeps only the maximum of each
block of 32 codes: an argmax over all scores is several times slower than a maximum, and writing n x V scores costs more than computing
them. Codes are the rows of a tile, the faster orientation of a product with few channels. Rows where the score of a second code is
within the rounding error of the best are searched again in float64, which also finds ties.
"""

from typing import Literal

import torch
from torch import Tensor

from tokenizer.layers.checks import require_one_of
from tokenizer.layers.precision import compute_dtype, full_precision
from tokenizer.quantizers.lookup_sorted import nearest_1d, nearest_on_circle

Ties = Literal["lowest", "random"]

BLOCK = 32
MIN_ROWS_TO_SORT = 32  # for fewer rows, sorting the codebook costs more than it saves
MAX_CLOSE_ROWS = 256  # rows per call that are searched in float64 on an accelerator
MAX_CLOSE_BLOCKS = 8  # blocks that are searched for each of them


def max_temp_elements(device: torch.device) -> int:
    """Number of elements of a temporary tensor: what fits into the cache of a CPU, or enough to occupy an accelerator."""
    return 2**20 if device.type == "cpu" else 2**26


def sync_is_free(device: torch.device) -> bool:
    """Whether the host can read a tensor at no cost; on an accelerator it would wait for the device in every training step."""
    return device.type == "cpu"


def nearest_code(latents: Tensor, codebook: Tensor, ties: Ties = "lowest", unit_length: bool = False) -> Tensor:
    """Index of the code with the smallest squared Euclidean distance, equal to a float64 brute-force search.

    On an accelerator, only the first 256 rows of a call whose best codes are within the rounding error of fp32 are searched in
    float64, in the 8 blocks of 32 codes that are best in fp32; further such rows keep the fp32 result.

    Args:
        latents: (..., d), compared as fp32, or as float64 if they or the codes are. A row that is not finite gets an arbitrary valid index.
        codebook: (V, d), compared likewise.
        ties: index among codes at exactly the same distance, the lowest or a uniformly drawn one.
        unit_length: whether all latents and codes have length 1 up to rounding; allows sorting by angle for d = 2.

    Returns:
        (...) int64 in [0, V).

    Raises:
        ValueError: the last dimensions differ, or `ties` is unknown.
    """
    require_one_of("ties", ties, ("lowest", "random"))
    if latents.shape[-1] != codebook.shape[-1]:
        raise ValueError(f"latents have {latents.shape[-1]} channels, codes have {codebook.shape[-1]}; is latent_dim divisible by groups?")
    with torch.no_grad(), full_precision(latents.device):
        dtype = compute_dtype(latents, codebook)
        rows, codes = latents.detach().reshape(-1, latents.shape[-1]).to(dtype), codebook.detach().to(dtype)
        worth_sorting = len(rows) >= MIN_ROWS_TO_SORT
        if worth_sorting and codes.shape[1] == 1:
            indices = nearest_1d(rows[:, 0], codes[:, 0], ties)
        elif worth_sorting and codes.shape[1] == 2 and unit_length and ties == "lowest":
            indices = nearest_on_circle(rows.double(), codes.double())
        else:
            indices = _nearest_tiled(rows, codes, ties)
        return indices.view(latents.shape[:-1])


def _nearest_tiled(rows: Tensor, codes: Tensor, ties: Ties) -> Tensor:
    """(n, d) and (V, d) to (n,): fp32 scores in tiles, float64 for rows that they leave uncertain."""
    indices, uncertain = _scan(rows, codes)
    if sync_is_free(rows.device):
        close_rows = uncertain.nonzero().squeeze(1)
        if len(close_rows):
            indices[close_rows] = _brute_force(rows[close_rows], codes, ties)
    elif len(rows):
        # Padding repeats row 0: searching it in float64 gives the same code.
        close_rows = torch.nonzero_static(uncertain, size=min(MAX_CLOSE_ROWS, len(rows)), fill_value=0).squeeze(1)
        indices[close_rows] = _search_best_blocks(rows[close_rows], codes, ties)
    return indices


def _scan(rows: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """The best code of each row in fp32, and whether another one is within the rounding error."""
    bias = -0.5 * codes.square().sum(1)
    longest = (-2 * bias.min()).sqrt()
    indices = torch.empty(len(rows), dtype=torch.long, device=rows.device)
    uncertain = torch.empty(len(rows), dtype=torch.bool, device=rows.device)
    blocks, limit = -(-len(codes) // BLOCK), max_temp_elements(rows.device)
    step = max(1, min(len(rows), limit // blocks, limit // 2048, 2 * limit // (BLOCK * codes.shape[1])))
    tile = rows.new_empty(min(blocks, max(1, limit // (step * BLOCK))) * BLOCK * step)
    # Twice the largest rounding error of a score: d products, their sum, and the bias.
    margins = 2 * (codes.shape[1] + 2) * (torch.finfo(rows.dtype).eps / 2) * longest * (rows.norm(dim=1) + longest / 2)
    for start in range(0, len(rows), step):
        chunk, margin = rows[start : start + step], margins[start : start + step]
        maxima = _block_maxima(chunk, codes, bias, tile)
        best, block = maxima.max(0)
        close_blocks = maxima.ge_(best - margin).sum(0)  # 1 or 0 in place, faster to add than bool
        if blocks * BLOCK * len(chunk) <= len(tile):  # the tile has the scores of all codes
            scores = tile[: blocks * BLOCK * len(chunk)].view(blocks, BLOCK, len(chunk))
            indices[start : start + step], close_codes = _inside_tile(scores, block, margin)
        else:
            indices[start : start + step], close_codes = _inside_block(chunk, codes, bias, block, margin)
        uncertain[start : start + step] = close_blocks + close_codes > 2
    return indices, uncertain


def _block_maxima(chunk: Tensor, codes: Tensor, bias: Tensor, tile: Tensor) -> Tensor:
    """(blocks, n): the largest score of each row in each block of codes. `tile` is overwritten."""
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


def _inside_tile(scores: Tensor, block: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
    """`_inside_block` from the scores (blocks, BLOCK, n) of all codes."""
    members = scores[block, :, torch.arange(len(block), device=block.device)]
    best, inner = members.max(1)
    return inner.add_(block, alpha=BLOCK), members.ge_((best - margin)[:, None]).sum(1)


def _inside_block(chunk: Tensor, codes: Tensor, bias: Tensor, block: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
    """The best code of one block for each row, and the number of codes of the block whose scores are within `margin` of it."""
    members = block[:, None] * BLOCK + torch.arange(BLOCK, device=block.device)
    beyond = members >= len(codes)
    members = members.clamp_(max=len(codes) - 1)
    gathered = codes.index_select(0, members.flatten()).view(*members.shape, -1)
    scores = torch.baddbmm(bias.take(members).unsqueeze(2), gathered, chunk.unsqueeze(2)).squeeze(2)
    best, inner = scores.masked_fill_(beyond, -torch.inf).max(1)
    return members.gather(1, inner[:, None]).squeeze(1), scores.ge_((best - margin)[:, None]).sum(1)


def _search_best_blocks(rows: Tensor, codes: Tensor, ties: Ties) -> Tensor:
    """`_brute_force` in the blocks with the largest fp32 scores only: a search of all codes in float64 takes longer than the scan."""
    blocks = -(-len(codes) // BLOCK)
    if blocks <= MAX_CLOSE_BLOCKS:
        return _brute_force(rows, codes, ties)
    tile = rows.new_empty(max(1, max_temp_elements(rows.device) // (BLOCK * len(rows))) * BLOCK * len(rows))
    best = _block_maxima(rows, codes, -0.5 * codes.square().sum(1), tile).topk(MAX_CLOSE_BLOCKS, 0).indices.sort(0).values
    members = (best.t()[:, :, None] * BLOCK + torch.arange(BLOCK, device=rows.device)).flatten(1)
    beyond = members >= len(codes)
    members.clamp_(max=len(codes) - 1)
    distances = torch.zeros(members.shape, dtype=torch.double, device=rows.device)
    for channel in range(codes.shape[1]):
        difference = rows[:, channel, None].double() - codes[:, channel][members].double()
        distances.addcmul_(difference, difference)
    return members.gather(1, _smallest(distances.masked_fill_(beyond, torch.inf), ties)[:, None]).squeeze(1)


def _smallest(distances: Tensor, ties: Ties) -> Tensor:
    """(n, V) to (n,): the first of the smallest, or a uniformly drawn one."""
    if ties == "random":
        nearest = distances == distances.amin(1, keepdim=True)
        distances = -torch.rand_like(distances).add_(1).mul_(nearest)
    return distances.argmin(1)


def _brute_force(rows: Tensor, codes: Tensor, ties: Ties) -> Tensor:
    """(n, d) and (V, d) to (n,) from differences in float64, in chunks of rows."""
    indices = []
    for chunk in torch.split(rows, max(1, max_temp_elements(rows.device) // 2 // len(codes))):
        distances = torch.zeros(len(chunk), len(codes), dtype=torch.double, device=rows.device)
        for of_rows, of_codes in zip(chunk.double().unbind(1), codes.unbind(1), strict=True):
            difference = of_rows[:, None] - of_codes
            distances.addcmul_(difference, difference)
        indices.append(_smallest(distances, ties))
    return torch.cat(indices)
