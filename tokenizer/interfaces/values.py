"""Dataclasses that the parts exchange: batches, layouts and outputs."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor


@dataclass(frozen=True)
class TokenLayout:
    """Positions of tokens on the image's grid of cells.

    Attributes:
        grid: (h, w) of the image's cells, h * w = L.
        kind: raster (one token per cell), sequence (no positions), or merged (one token for several cells).
        assignment: (B, L) int64 in [0, N), the token of each cell; tokens are ordered by their first cell in raster order.
        token_sizes: (B, N), number of cells of each token; 0 for padding, which follows the tokens of an image with fewer than N.
    """

    grid: tuple[int, int]
    kind: Literal["raster", "sequence", "merged"] = "raster"
    assignment: Tensor | None = None
    token_sizes: Tensor | None = None

    def to(self, *args: Any, **kwargs: Any) -> "TokenLayout":
        """Copy on another device."""
        return self._moved(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> "TokenLayout":
        """Copy in page-locked memory."""
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> "TokenLayout":
        assignment, token_sizes = (None if each is None else move(each) for each in (self.assignment, self.token_sizes))
        return replace(self, assignment=assignment, token_sizes=token_sizes)


@dataclass(frozen=True)
class EncoderOutput:
    """Output of an encoder.

    Attributes:
        latents: (B, N, D).
        layout: layout of the tokens.
        features: `tokens` (B, N, W), the input of the projection to latents.
    """

    latents: Tensor
    layout: TokenLayout
    features: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class QuantizerOutput:
    """Output of a quantizer.

    Attributes:
        quantized: (B, N, D), with the straight-through gradient.
        indices: (B, N, G) int64 in [0, V).
        lookup_latents: (B, N, G, d), latents as they were compared with the codes, with gradient.
        losses: unweighted scalars; `commitment` and `codebook` if the method has them.
    """

    quantized: Tensor
    indices: Tensor
    lookup_latents: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class DecoderOutput:
    """Output of a decoder.

    Attributes:
        reconstruction: (B, 3, H, W), not clamped.
        features: inner features; `block3` for every tap of the call.
    """

    reconstruction: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenizerOutput:
    """Outputs of the three parts of an image tokenizer."""

    encoder: EncoderOutput
    quantizer: QuantizerOutput
    decoder: DecoderOutput


@dataclass(frozen=True)
class TrainingPass:
    """A forward pass of training, as inner losses read it.

    Attributes:
        images: (B, 3, H, W) in [-1, 1].
        output: outputs of the tokenizer's parts for the images.
        update: number of the update, counted from 1.
        image_loss: function of another reconstruction (B, 3, H, W) of the images that returns the weighted sum of the losses that compare
            the two; set by the objective.
    """

    images: Tensor
    output: TokenizerOutput
    update: int
    image_loss: Callable[[Tensor], Tensor] | None = None


@dataclass
class ImageBatch:
    """Batch of images.

    Attributes:
        images: (B, 3, H, W); uint8 from the loader, float in [-1, 1] after normalization.
        labels: (B,) int64, -1 for no label.
        keys: names of the images, for messages.
        views: further views of the same images (student, teacher); empty for most tasks.
        left_out: names of images of an evaluation batch that could not be read and have no row.
    """

    images: Tensor
    labels: Tensor
    keys: list[str]
    views: dict[str, Tensor] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def to(self, *args: Any, **kwargs: Any) -> "ImageBatch":
        """Copy on another device."""
        views = {name: view.to(*args, **kwargs) for name, view in self.views.items()}
        return ImageBatch(self.images.to(*args, **kwargs), self.labels.to(*args, **kwargs), self.keys, views, self.left_out)

    def pin_memory(self) -> "ImageBatch":
        """Copy in page-locked memory; called by the loader."""
        views = {name: view.pin_memory() for name, view in self.views.items()}
        return ImageBatch(self.images.pin_memory(), self.labels.pin_memory(), self.keys, views, self.left_out)


@dataclass(frozen=True)
class TokenSpec:
    """Tokens of an image of a given size: all that a generator needs to know about a tokenizer.

    Attributes:
        codebook_size: V, the same for all groups.
        groups: G, indices per token.
        num_tokens: N, the largest of `kept` if tokens are merged.
        grid: (h, w) of the image's cells.
        kind: see `TokenLayout`.
        num_classes: number of classes, with labels 0 .. num_classes - 1; 0 for unlabeled images.
        kept: numbers of tokens that images have, ascending, if tokens are merged; empty otherwise.
    """

    codebook_size: int
    groups: int
    num_tokens: int
    grid: tuple[int, int]
    kind: Literal["raster", "sequence", "merged"] = "raster"
    num_classes: int = 0
    kept: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("grid", "kept"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # a list if read from a file

    @property
    def layout(self) -> TokenLayout:
        """Layout of the tokens, without an assignment."""
        return TokenLayout((self.grid[0], self.grid[1]), self.kind)

    @property
    def unmerged(self) -> "TokenSpec":
        """Specification of one token for each cell, in raster order."""
        return replace(self, num_tokens=self.grid[0] * self.grid[1], kind="raster", kept=())


@dataclass(frozen=True)
class TokenBatch:
    """Batch of tokenized images.

    Attributes:
        indices: (B, N, G) int64 in [0, V).
        labels: (B,) int64, -1 for no label.
        layout: layout of the tokens.
        keys: names of the images, for messages.
    """

    indices: Tensor
    labels: Tensor
    layout: TokenLayout
    keys: list[str] = field(default_factory=list)

    def to(self, *args: Any, **kwargs: Any) -> "TokenBatch":
        """Copy on another device."""
        indices, labels = self.indices.to(*args, **kwargs), self.labels.to(*args, **kwargs)
        return replace(self, indices=indices, labels=labels, layout=self.layout.to(*args, **kwargs))

    def pin_memory(self) -> "TokenBatch":
        """Copy in page-locked memory; called by the loader."""
        return replace(self, indices=self.indices.pin_memory(), labels=self.labels.pin_memory(), layout=self.layout.pin_memory())
