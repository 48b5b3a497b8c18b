"""Hybrid backbones of GigaTok: a convolutional network makes a map of features, a transformer makes tokens of it, and back.

Paper: Xiong et al. 2025 (GigaTok), arXiv:2504.08736 section 3 and appendix. `QueryEncoder` and `QueryDecoder` make a sequence of tokens
(1-D) with the blocks of a Q-Former, `CellEncoder` and `CellDecoder` one token a cell (2-D) with those of a ViT.
At other image sizes than that of the training, the positions of cells are interpolated; a sequence keeps its number of tokens.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.backbones.vqgan import ImageToMap, MapToImage
from tokenizer.interfaces import Decoder, DecoderOutput, Encoder, EncoderOutput, TokenLayout
from tokenizer.layers.checks import ArgumentError, require_at_least
from tokenizer.layers.trunk import Trunk
from tokenizer.layers.vit import QueryBlock, ViTBlock, reset_linear, resize_positions


class _HybridEncoder(Encoder):
    """What both encoders share: the network to the map, and the layers between map, transformer and latents."""

    def __init__(self, latent_dim: int, stem: ImageToMap, width: int, depth: int, grid: list[int]) -> None:
        super().__init__()
        _check(latent_dim, width, depth, grid)
        self.latent_dim, self.downsample, self.width = latent_dim, stem.downsample, width
        self.cells = (grid[0], grid[1])
        self.stem = stem
        self.entry = nn.Sequential(nn.LayerNorm(stem.channels), nn.Linear(stem.channels, width))
        self.cell_positions = nn.Parameter(torch.empty(grid[0] * grid[1], width))
        self.norm, self.exit = nn.LayerNorm(width), nn.Linear(width, stem.channels)
        self.head = nn.Linear(stem.channels, latent_dim)

    def _enter(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The map (B, C, h, w), its cells (B, L, W) as the transformer reads them, and the positions (L, W) of the cells."""
        cells = self.stem(images)[0]
        grid = (cells.shape[2], cells.shape[3])
        return cells, self.entry(cells.flatten(2).transpose(1, 2)), resize_positions(self.cell_positions, self.cells, grid)

    def _leave(self, features: Tensor, cells: Tensor) -> EncoderOutput:
        tokens = self.norm(features)
        layout = TokenLayout((cells.shape[2], cells.shape[3]), self.kind)
        return EncoderOutput(self.head(self.exit(tokens)), layout, {"tokens": tokens, "map": cells})

    def reset_parameters(self) -> None:
        """Re-initialize all parameters; as in the paper's code, the layer before the latents has torch's default initialization."""
        _reset(self)
        self.head.reset_parameters()


class QueryEncoder(_HybridEncoder):
    """Images to a sequence of tokens: queries, averages over parts of the map from coarse to fine, attend to its cells.

    Args:
        latent_dim: D.
        stem: network from images to the map.
        width: W of the transformer.
        depth: number of blocks.
        attention_heads: number of heads, a divisor of the width.
        grid: (h, w) of the map of the training, for which there are positions.
        num_tokens: N, a power of 2; None for the number of cells in `grid`.

    Raises:
        ValueError: a number is below 1, N is no power of 2, or the heads do not divide the width.
    """

    kind = "sequence"

    def __init__(
        self,
        latent_dim: int,
        stem: ImageToMap,
        width: int,
        depth: int,
        attention_heads: int,
        grid: list[int],
        num_tokens: int | None = None,
    ) -> None:
        super().__init__(latent_dim, stem, width, depth, grid)
        num_tokens = _number(num_tokens, grid)
        self.levels = pooling_levels(num_tokens)
        self.query = nn.Linear(width, width)
        self.token_positions = nn.Parameter(torch.empty(num_tokens, width))
        self.blocks = Trunk([QueryBlock(width, attention_heads) for _ in range(depth)])
        self.reset_parameters()

    def num_tokens(self, grid: tuple[int, int]) -> int:
        """N, whatever the grid.

        Raises:
            ValueError: the map cannot be divided into the parts of the finest level.
        """
        (rows, columns), step = self.levels[-1], self.downsample
        if grid[0] % rows or grid[1] % columns:
            raise ValueError(
                f"a map of {grid[0]} x {grid[1]} cells cannot be divided into the {rows} x {columns} parts of {len(self.token_positions)} "
                f"tokens; expected images whose height is a multiple of {rows * step} and whose width is one of {columns * step} pixels"
            )
        return len(self.token_positions)

    def forward(self, images: Tensor, num_tokens: int | None = None) -> EncoderOutput:
        """Encode images (B, 3, H, W) in [-1, 1].

        Raises:
            ValueError: another number of tokens than N, or images of a size that `num_tokens` refuses.
        """
        cells, memory, positions = self._enter(images)
        grid = (cells.shape[2], cells.shape[3])
        self.require_num_tokens(num_tokens, grid)
        queries = self.query(pool(memory, grid, self.levels))
        features, _ = self.blocks(queries, self.token_positions, memory, positions)
        return self._leave(features, cells)


class CellEncoder(_HybridEncoder):
    """Images to a raster of tokens, one a cell of the map.

    Args:
        latent_dim: D.
        stem: network from images to the map.
        width: W of the transformer.
        depth: number of blocks.
        attention_heads: number of heads, a divisor of the width.
        grid: (h, w) of the map of the training, for which there are positions.

    Raises:
        ValueError: a number is below 1, or the heads do not divide the width.
    """

    def __init__(self, latent_dim: int, stem: ImageToMap, width: int, depth: int, attention_heads: int, grid: list[int]) -> None:
        super().__init__(latent_dim, stem, width, depth, grid)
        self.blocks = Trunk([ViTBlock(width, attention_heads) for _ in range(depth)])
        self.reset_parameters()

    def forward(self, images: Tensor, num_tokens: int | None = None) -> EncoderOutput:
        """Encode images (B, 3, H, W) in [-1, 1]; tokens are in raster order.

        Raises:
            ValueError: `num_tokens` differs from the number of cells.
        """
        cells, features, positions = self._enter(images)
        self.require_num_tokens(num_tokens, (cells.shape[2], cells.shape[3]))
        features, _ = self.blocks(features + positions)
        return self._leave(features, cells)


class _HybridDecoder(Decoder):
    """What both decoders share: the layers between latents, transformer and map, and the network from the map."""

    blocks: Trunk

    def __init__(self, latent_dim: int, head: MapToImage, width: int, depth: int, grid: list[int]) -> None:
        super().__init__()
        _check(latent_dim, width, depth, grid)
        self.latent_dim, self.depth, self.width = latent_dim, depth, width
        self.cells = (grid[0], grid[1])
        self.head = head
        self.stem = nn.Linear(latent_dim, head.channels)
        self.entry = nn.Sequential(nn.LayerNorm(head.channels), nn.Linear(head.channels, width))
        self.cell_positions = nn.Parameter(torch.empty(grid[0] * grid[1], width))
        self.norm, self.exit = nn.LayerNorm(width), nn.Conv2d(width, head.channels, 3, padding=1)

    @property
    def last_layer(self) -> nn.Module:
        """Convolution to pixels."""
        return self.head.head

    def paint(self, cells: Tensor) -> Tensor:
        """Images (B, 3, H, W), nominally in [-1, 1], of a map (B, C, h, w)."""
        images: Tensor = self.head(cells)[0]
        return images

    def _decode(self, layout: TokenLayout, taps: Sequence[int], features: Tensor, *context: Tensor) -> DecoderOutput:
        """Image of the cells (B, L, W); the features of a tap are (B, L, W), and `map` is (B, C, h, w)."""
        features, tapped = self.blocks(features, *context, taps=taps)
        cells = self.exit(self.norm(features).transpose(1, 2).reshape(len(features), self.width, *layout.grid))
        return DecoderOutput(self.paint(cells), {**{f"block{number}": tokens for number, tokens in tapped.items()}, "map": cells})

    def reset_parameters(self) -> None:
        """Re-initialize all parameters; as in the paper's code, the layer after the latents has torch's default initialization."""
        _reset(self)
        self.stem.reset_parameters()


class QueryDecoder(_HybridDecoder):
    """A sequence of tokens to an image: one query a cell, all equal to the first token but for their positions, attends to the tokens.

    All other arguments and errors are those of `QueryEncoder`.

    Args:
        head: network from the map to images.
    """

    def __init__(
        self,
        latent_dim: int,
        head: MapToImage,
        width: int,
        depth: int,
        attention_heads: int,
        grid: list[int],
        num_tokens: int | None = None,
    ) -> None:
        super().__init__(latent_dim, head, width, depth, grid)
        num_tokens = _number(num_tokens, grid)
        self.token_positions = nn.Parameter(torch.empty(num_tokens, width))
        self.blocks = Trunk([QueryBlock(width, attention_heads) for _ in range(depth)])
        self.reset_parameters()

    def forward(self, quantized: Tensor, layout: TokenLayout, taps: Sequence[int] = ()) -> DecoderOutput:
        """Decode quantized latents (B, N, D); the features of a tap are (B, L, W).

        Raises:
            ValueError: the layout is not a sequence, another number of tokens than N, or there is no such block.
        """
        self.require_blocks(taps)
        num_tokens = len(self.token_positions)
        if layout.kind != "sequence" or quantized.shape[1] != num_tokens:
            raise ValueError(
                f"this decoder needs a sequence of {num_tokens} tokens; got {quantized.shape[1]} of kind {layout.kind}; choose the decoder "
                "that belongs to the encoder under backbone"
            )
        memory = self.entry(self.stem(quantized))
        queries = memory[:, :1].expand(-1, layout.grid[0] * layout.grid[1], -1)
        positions = resize_positions(self.cell_positions, self.cells, layout.grid)
        return self._decode(layout, taps, queries, positions, memory, self.token_positions)


class CellDecoder(_HybridDecoder):
    """A raster of tokens to an image.

    All other arguments and errors are those of `CellEncoder`.

    Args:
        head: network from the map to images.
    """

    def __init__(self, latent_dim: int, head: MapToImage, width: int, depth: int, attention_heads: int, grid: list[int]) -> None:
        super().__init__(latent_dim, head, width, depth, grid)
        self.blocks = Trunk([ViTBlock(width, attention_heads) for _ in range(depth)])
        self.reset_parameters()

    def forward(self, quantized: Tensor, layout: TokenLayout, taps: Sequence[int] = ()) -> DecoderOutput:
        """Decode quantized latents (B, N, D) in raster order; the features of a tap are (B, L, W).

        Raises:
            ValueError: the layout is not a raster, the number of tokens differs from the number of cells, or there is no such block.
        """
        self.require_blocks(taps)
        self.require_raster(quantized, layout)
        positions = resize_positions(self.cell_positions, self.cells, layout.grid)
        return self._decode(layout, taps, self.entry(self.stem(quantized)) + positions)


def pooling_levels(num_tokens: int) -> list[tuple[int, int]]:
    """Parts (rows, columns) into which the map is divided, from coarse to fine: the whole map twice, then columns are doubled first."""
    doublings = num_tokens.bit_length() - 1
    return [(1, 1), *((2 ** (level // 2), 2 ** ((level + 1) // 2)) for level in range(doublings))]


def pool(cells: Tensor, grid: tuple[int, int], levels: list[tuple[int, int]]) -> Tensor:
    """Averages (B, N, W) of cells (B, h w, W) over the parts of each level, in raster order within a level."""
    features = cells.transpose(1, 2).reshape(len(cells), -1, *grid)
    averages = [F.avg_pool2d(features, (grid[0] // rows, grid[1] // columns)).flatten(2) for rows, columns in levels]
    return torch.cat(averages, 2).transpose(1, 2)


def _check(latent_dim: int, width: int, depth: int, grid: list[int]) -> None:
    for name, size in (("latent_dim", latent_dim), ("width", width), ("depth", depth)):
        require_at_least(name, size, 1)
    if len(grid) != 2 or min(grid) < 1:
        raise ArgumentError("grid", list(grid), "two numbers of at least 1, height and width in cells")


def _number(num_tokens: int | None, grid: list[int]) -> int:
    number = grid[0] * grid[1] if num_tokens is None else num_tokens
    if number < 1 or number.bit_count() != 1:
        raise ArgumentError("num_tokens", num_tokens, f"a power of 2, also where it is null for the {grid[0]} x {grid[1]} cells")
    return number


def _reset(module: nn.Module) -> None:
    """Initialize all layers by `reset_linear` or torch's defaults, positions from N(0, 1/W), blocks by their own rule."""
    for name, parameter in module.named_parameters(recurse=False):
        assert name.endswith("positions")
        nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    for child in module.children():
        if isinstance(child, Trunk):
            child.reset_parameters()
            continue
        for layer in child.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                reset_linear(layer)
            elif isinstance(layer, nn.LayerNorm | nn.GroupNorm):
                layer.reset_parameters()
