"""Data of tokens in a cache: batches of indices are read from the file, without images and encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.config.errors import DataError
from experiments.data.source import NO_LABEL, DataSource, Draw
from experiments.tokens.cache import TokenCache
from tokenizer.interfaces import TokenBatch, TokenLayout, TokenSpec


class CachedTokens(DataSource):
    """The two splits of a token cache; its batches are `TokenBatch`.

    Attributes:
        tokens: sizes of the tokens of one image.
        header: the cache's header.
    """

    train: "CachedRows"
    val: "CachedRows"

    def __init__(self, file: str, seed: int) -> None:
        """
        Args:
            file: written by `python -m experiments.tokenize`.
            seed: seed of the choice among the views of a training image.

        Raises:
            DataError: no cache, a damaged one, or labels out of range.
        """
        cache = TokenCache(file)
        self.header = cache.header
        about = self.header.about
        self.tokens = spec_of(self.header.tokens)
        self.image_size = int(about["image_size"])
        self.classes = about["classes"]
        self.transform = str(about["transform"])
        self.reference = str(about["reference"])
        self.train = CachedRows(cache, "train", seed, self.tokens)
        self.val = CachedRows(cache, "val", seed, self.tokens)

    def fingerprint(self) -> str:
        return self.header.fingerprint

    def contents(self) -> dict[str, str]:
        """Digests of the tokens, and of their tokenizer."""
        return {"data": self.fingerprint(), "tokenizer": self.made_with["digest"]}

    @property
    def made_with(self) -> dict[str, Any]:
        """Folder, digest and weights of the tokenizer in the cache's header."""
        return dict(self.header.about["tokenizer"])

    def collate(self, examples: TokenBatch) -> TokenBatch:
        """`CachedRows` reads whole batches."""
        return examples


def spec_of(fields: Mapping[str, Any]) -> TokenSpec:
    """The TokenSpec of fields out of a file."""
    return TokenSpec(**{**fields, "grid": tuple(fields["grid"])})


def stored_layout(tokens: TokenSpec, assignment: NDArray[Any] | None) -> TokenLayout:
    """Layout of a batch of stored images; `assignment` (B, L) is that of merged tokens, None otherwise."""
    if assignment is None:
        return tokens.layout
    token_of_cell = torch.from_numpy(assignment.astype(np.int64))
    sizes = torch.zeros(len(token_of_cell), tokens.num_tokens, dtype=torch.int64)
    sizes.scatter_add_(1, token_of_cell, torch.ones_like(token_of_cell))
    return replace(tokens.layout, assignment=token_of_cell, token_sizes=sizes)


class CachedRows:
    """One split. A `Draw` picks a view, an int takes the first one."""

    def __init__(self, cache: TokenCache, split: str, seed: int, tokens: TokenSpec) -> None:
        """Map the arrays.

        Raises:
            DataError: a label is neither a class nor -1.
        """
        self.arguments = (cache, split, seed, tokens)
        self.file = cache.header.path
        self.split = split
        self.seed = seed
        self.tokens = tokens
        self.indices = cache.array(f"{split}/indices")
        self.assignment = cache.array(f"{split}/assignment") if tokens.kind == "merged" else None
        self.token_counts = np.array(cache.header.token_counts(split))  # of each view
        self.labels = cache.array(f"{split}/labels")
        lowest, highest = (int(self.labels.min()), int(self.labels.max())) if len(self.labels) else (NO_LABEL, NO_LABEL)
        if lowest < NO_LABEL or highest >= tokens.num_classes:
            raise self._damaged(f"{split} labels are in {lowest} .. {highest}, expected -1 or a class below {tokens.num_classes}")

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: the file is mapped there, not copied."""
        return CachedRows, self.arguments

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: Draw | int) -> TokenBatch:
        return self.__getitems__([place])

    def __getitems__(self, places: Sequence[Draw | int]) -> TokenBatch:
        """All rows of a batch at once, which the loader prefers to one after the other; see `batch`."""
        rows = np.array([place.index if isinstance(place, Draw) else place for place in places], dtype=np.int64)
        return self.batch(rows, np.array([self.view(place) for place in places], dtype=np.int64))

    def batch(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> TokenBatch:
        """One view of each row, both (B,).

        Raises:
            DataError: an index or an assignment out of range.
        """
        indices = self.indices[rows, views].astype(np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < self.tokens.codebook_size:
            raise self._damaged(f"{self.split} has an index {indices.max()}, expected less than {self.tokens.codebook_size}")
        assignment = None if self.assignment is None else self.assignment[rows, views]
        if assignment is not None and (assignment.max(1) >= self.token_counts[views]).any():
            raise self._damaged(f"{self.split} assigns cells to tokens up to {assignment.max()}, expected less than {self.tokens.kept}")
        labels = torch.from_numpy(self.labels[rows].astype(np.int64))
        keys = [f"{self.split}#{row}.{view}" for row, view in zip(rows, views, strict=True)]
        return TokenBatch(torch.from_numpy(indices), labels, stored_layout(self.tokens, assignment), keys)

    def view(self, place: Draw | int) -> int:
        """Number of the view that is read."""
        views = self.indices.shape[1]
        return int(place.random(self.seed).integers(views)) if isinstance(place, Draw) and views > 1 else 0

    def _damaged(self, reason: str) -> DataError:
        return DataError(self.file, f"{reason}; the file is damaged: tokenize again", "data.file")
