"""What travels between the parts: batches, layouts, and what each part returns."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor


@dataclass(frozen=True)
class TokenLayout:
    """Where tokens lie on the image's grid of cells.

    Attributes:
        grid: (h, w) of the image's cells, h * w = L.
        kind: raster (one token a cell), sequence (no place), merged (a token owns several cells).
        assignment: (B, L) int64 in [0, N): the token that owns each cell; tokens are ordered by their first raster cell.
        token_sizes: (B, N) number of cells of each token.
    """

    grid: tuple[int, int]
    kind: Literal["raster", "sequence", "merged"] = "raster"
    assignment: Tensor | None = None
    token_sizes: Tensor | None = None


@dataclass(frozen=True)
class EncoderOutput:
    """latents (B, N, D), their layout, and the inner features that were asked for at construction."""

    latents: Tensor
    layout: TokenLayout
    features: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class QuantizerOutput:
    """What a quantizer made of the latents.

    Attributes:
        quantized: (B, N, D), carries the straight-through gradient.
        indices: (B, N, G) int64 in [0, V).
        lookup_latents: (B, N, G, d), what was compared with the codes, with gradient.
        losses: unweighted scalars, `commitment` and `codebook` where the method has them.
    """

    quantized: Tensor
    indices: Tensor
    lookup_latents: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class DecoderOutput:
    """reconstruction (B, 3, H, W), not clamped, and the inner features that were asked for at construction."""

    reconstruction: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenizerOutput:
    """One pass through an image tokenizer."""

    encoder: EncoderOutput
    quantizer: QuantizerOutput
    decoder: DecoderOutput


@dataclass
class ImageBatch:
    """Images on their way to a model.

    Attributes:
        images: (B, 3, H, W), uint8 out of the loader, float in [-1, 1] once normalised.
        labels: (B,) int64, -1 where there is none.
        keys: which picture each row is, for messages.
        views: other views of the same pictures (student, teacher); empty for most tasks.
        left_out: keys of pictures of an evaluation batch that could not be read; they have no row.
    """

    images: Tensor
    labels: Tensor
    keys: list[str]
    views: dict[str, Tensor] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def to(self, *args: Any, **kwargs: Any) -> "ImageBatch":
        """The same batch on another device."""
        views = {name: view.to(*args, **kwargs) for name, view in self.views.items()}
        return ImageBatch(self.images.to(*args, **kwargs), self.labels.to(*args, **kwargs), self.keys, views, self.left_out)

    def pin_memory(self) -> "ImageBatch":
        """The same batch in page-locked memory, called by the loader."""
        views = {name: view.pin_memory() for name, view in self.views.items()}
        return ImageBatch(self.images.pin_memory(), self.labels.pin_memory(), self.keys, views, self.left_out)


@dataclass(frozen=True)
class TokenSpec:
    """What a tokenizer makes of every image of one size, and what a generator of such images has to know.

    Attributes:
        codebook_size: V, of each group.
        groups: G, indices of one token.
        num_tokens: N.
        grid: (h, w) of the image's cells.
        kind: see `TokenLayout`.
        num_classes: labels are 0 .. num_classes - 1; 0 where there are none.
    """

    codebook_size: int
    groups: int
    num_tokens: int
    grid: tuple[int, int]
    kind: Literal["raster", "sequence", "merged"] = "raster"
    num_classes: int = 0

    def __post_init__(self) -> None:
        """A grid out of a file is a list."""
        object.__setattr__(self, "grid", tuple(self.grid))

    @property
    def layout(self) -> TokenLayout:
        """The layout of such tokens, without an assignment."""
        return TokenLayout((self.grid[0], self.grid[1]), self.kind)


@dataclass(frozen=True)
class TokenBatch:
    """Tokenized images on their way to a generator.

    Attributes:
        indices: (B, N, G) int64 in [0, V).
        labels: (B,) int64, -1 where there is none.
        layout: of the tokens.
        keys: which picture each row is, for messages.
    """

    indices: Tensor
    labels: Tensor
    layout: TokenLayout
    keys: list[str] = field(default_factory=list)

    def to(self, *args: Any, **kwargs: Any) -> "TokenBatch":
        """The same batch on another device."""
        return replace(self, indices=self.indices.to(*args, **kwargs), labels=self.labels.to(*args, **kwargs))

    def pin_memory(self) -> "TokenBatch":
        """The same batch in page-locked memory, called by the loader."""
        return replace(self, indices=self.indices.pin_memory(), labels=self.labels.pin_memory())
