"""A small tokenizer that merges tokens: runs of similar neighboring cells become one token, and the decoder repeats it for each cell."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import Decoder, DecoderOutput, Encoder, EncoderOutput, TokenLayout
from tokenizer.quantizers.gsq import GroupedSphericalQuantizer

DOWNSAMPLE = 8


class MergingEncoder(Encoder):
    """Patches, merged along the raster where neighbors differ least; half as many tokens as cells by default."""

    kind = "merged"
    downsample = DOWNSAMPLE

    def __init__(self, latent_dim: int, width: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.embedding = nn.Linear(3 * DOWNSAMPLE**2, width)
        self.projection = nn.Linear(width, latent_dim)

    def num_tokens(self, grid: tuple[int, int]) -> int:
        return grid[0] * grid[1] // 2

    def forward(self, images: Tensor, num_tokens: int | None = None) -> EncoderOutput:
        patches = F.pixel_unshuffle(images, DOWNSAMPLE)
        grid = (patches.shape[-2], patches.shape[-1])
        count, cells = self.num_tokens(grid) if num_tokens is None else num_tokens, grid[0] * grid[1]
        if not 1 <= count <= cells:
            raise ValueError(f"num_tokens={count}, expected 1 to {cells}, the number of cells")
        features = self.embedding(patches.flatten(2).transpose(1, 2))
        differences = (features[:, 1:] - features[:, :-1]).norm(dim=-1)
        starts = torch.zeros(features.shape[:2], dtype=torch.int64, device=features.device)
        starts[:, 1:].scatter_(1, differences.topk(count - 1).indices, 1)
        assignment = starts.cumsum(1)
        members = F.one_hot(assignment, count)
        sizes = members.sum(1)
        tokens = members.transpose(1, 2).to(features.dtype) @ features / sizes[..., None]
        return EncoderOutput(self.projection(tokens), TokenLayout(grid, "merged", assignment, sizes), {"tokens": tokens})

    def reset_parameters(self) -> None:
        self.embedding.reset_parameters()
        self.projection.reset_parameters()


class UnmergingDecoder(Decoder):
    """The token of each cell, as a patch."""

    depth = 0

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.patch = nn.Linear(latent_dim, 3 * DOWNSAMPLE**2)

    @property
    def last_layer(self) -> nn.Module:
        return self.patch

    def forward(self, quantized: Tensor, layout: TokenLayout, taps: Sequence[int] = ()) -> DecoderOutput:
        self.require_blocks(taps)
        cells = quantized.gather(1, layout.assignment[..., None].expand(-1, -1, self.latent_dim))
        return DecoderOutput(F.pixel_shuffle(self.patch(cells).transpose(1, 2).unflatten(2, layout.grid), DOWNSAMPLE))

    def reset_parameters(self) -> None:
        self.patch.reset_parameters()


def merging_tokenizer(width: int = 8) -> ImageTokenizer:
    """Two groups of 16 codes, in eval mode; the same weights every time."""
    torch.manual_seed(0)
    return ImageTokenizer(MergingEncoder(4, width), GroupedSphericalQuantizer(4, 2, 16), UnmergingDecoder(4)).eval()


def write_merging_tokenizer(folder: Path, image_size: int = 32) -> ImageTokenizer:
    """Export it. To load it, `tests` must be an allowed package."""
    model = merging_tokenizer()
    model.save_pretrained(folder, {"image_size": image_size, "tokens": vars(model.tokens(image_size)), "classes": None})
    return model
