"""Checks of the header of a token cache: its fields, and their agreement with the arrays. Imports neither numpy nor torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tokenizer.files import content_sha256

DTYPES = {"U8": "<u1", "U16": "<u2", "U32": "<u4", "I32": "<i4", "I64": "<i8"}  # of safetensors and of numpy
LARGEST_NUMBER, MOST_AXES = 1 << 62, 4  # of a shape
DATA_DIGEST, HEADER_DIGEST = "arrays sha256", "header sha256"  # in the header's `__metadata__`
Count = Annotated[int, Field(ge=1, lt=1 << 31)]
Shapes = Mapping[str, tuple[str, tuple[int, ...]]]  # dtype and shape of each array
CODES = {"U8": 1 << 8, "U16": 1 << 16, "U32": 1 << 32, "I64": 1 << 63}  # largest number of codes of a dtype


@dataclass(frozen=True)
class StoredArray:
    """An array of a cache: safetensors' name of its dtype, shape, and the first byte in the file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of bytes."""
        return math.prod(self.shape) * int(DTYPES[self.dtype][-1])


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Tokens(_Strict):
    codebook_size: Annotated[int, Field(ge=1, lt=1 << 63)]
    groups: Count
    num_tokens: Count
    grid: Annotated[list[Count], Field(min_length=2, max_length=2)]
    kind: Literal["raster", "sequence", "merged"]
    num_classes: Annotated[int, Field(ge=0, lt=1 << 31)]
    kept: list[Count] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        cells = math.prod(self.grid)
        if self.kind == "raster" and cells != self.num_tokens:
            raise ValueError(f"grid {self.grid} has {cells} cells, num_tokens is {self.num_tokens}")
        if self.kind == "merged" and (self.num_tokens > cells or self.num_tokens != max(self.kept, default=0)):
            raise ValueError(
                f"num_tokens is {self.num_tokens}, expected the largest of kept {self.kept}, at most the {cells} cells of grid"
            )
        if self.kind != "merged" and self.kept:
            raise ValueError(f"kept is {self.kept}, expected no entry of tokens that are not merged")
        return self


class _Data(_Strict):
    name: str
    config: dict[str, Any]
    fingerprint: str


class _Tokenizer(_Strict):
    folder: str
    digest: str
    weights: str


class _Views(_Strict):
    kept: list[Count] | None = None


class _Split(_Strict):
    keys: str
    left_out: list[str]
    codebook_usage: float | None = None


class _Splits(_Strict):
    train: _Split
    val: _Split


class _About(_Strict):
    tokens: _Tokens
    classes: list[str] | None
    image_size: Count
    transform: str
    reference: str
    views: _Views
    seed: int
    data: _Data
    tokenizer: _Tokenizer
    precision: str
    code_version: str
    splits: _Splits

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.classes or []) != self.tokens.num_classes:
            raise ValueError(f"classes has {len(self.classes or [])} names, num_classes is {self.tokens.num_classes}")
        return self


def check_header(about: Mapping[str, Any], arrays: Shapes) -> None:
    """Check the types and ranges of a header's fields, and that they agree with one another and with the arrays.

    Raises:
        ValueError: names the field or array with both values, in one line.
    """
    try:
        checked = _About.model_validate(dict(about))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"a header with {'.'.join(map(str, first['loc']))}: {' '.join(first['msg'].split())}") from error
    for split in ("train", "val"):
        if any(name.startswith(f"{split}/") for name in arrays):
            _check_split(split, checked, arrays)
    unknown = sorted(name for name in arrays if name.partition("/")[0] not in ("train", "val"))
    if unknown or not arrays:
        raise ValueError(f"the arrays {', '.join(unknown) or 'none'}, expected those of train and val")


def _check_split(split: str, about: _About, arrays: Shapes) -> None:
    tokens = about.tokens
    own = {name.partition("/")[2]: array for name, array in arrays.items() if name.startswith(f"{split}/")}
    expected = {"indices", "labels", *(["assignment"] if tokens.kind == "merged" else [])}
    if set(own) != expected:
        raise ValueError(f"{split} has the arrays {', '.join(sorted(own))}, expected {', '.join(sorted(expected))}")
    (index_type, shape), (label_type, labels) = own["indices"], own["labels"]
    if label_type != "I32" or len(labels) != 1:
        raise ValueError(f"{split}/labels has the dtype {label_type} and shape {list(labels)}, expected I32 and one axis")
    if len(shape) != 4 or shape[0] != labels[0] or shape[2:] != (tokens.num_tokens, tokens.groups) or shape[1] < 1:
        needed = f"[{labels[0]}, views, {tokens.num_tokens}, {tokens.groups}], by labels, num_tokens and groups"
        raise ValueError(f"{split}/indices has the shape {list(shape)}, expected {needed}")
    if index_type not in CODES or CODES[index_type] < tokens.codebook_size:
        raise ValueError(f"{split}/indices has the dtype {index_type}, expected one that holds the codebook_size {tokens.codebook_size}")
    kept = about.views.kept
    if kept is not None and (len(kept) < shape[1] or not set(kept) <= set(tokens.kept)):
        raise ValueError(f"views.kept is {kept}, expected for each of the {shape[1]} views of {split} one of {tokens.kept}")
    if tokens.kind == "merged":
        place = own["assignment"]
        if place[1] != (*shape[:2], math.prod(tokens.grid)) or CODES.get(place[0], 0) < tokens.num_tokens:
            needed = f"the shape {[*shape[:2], math.prod(tokens.grid)]} of whole numbers, by indices and grid"
            raise ValueError(f"{split}/assignment has the dtype {place[0]} and shape {list(place[1])}, expected {needed}")


def verified_digest(metadata: Mapping[str, Any], arrays: Mapping[str, Any]) -> str | None:
    """The recorded digest of the arrays, after the header's own was verified; None in a file of an earlier version, which has neither."""
    if set(metadata) == {"tessera"}:
        return None
    if set(metadata) != {"tessera", DATA_DIGEST, HEADER_DIGEST}:
        raise ValueError(f"the entries {', '.join(sorted(map(repr, metadata)))}, expected tessera, {DATA_DIGEST} and {HEADER_DIGEST}")
    if metadata[HEADER_DIGEST] != header_digest(metadata["tessera"], metadata[DATA_DIGEST], arrays):
        raise ValueError(f"another header than when {HEADER_DIGEST} was computed")
    return str(metadata[DATA_DIGEST])


def header_digest(about: str, data: str, arrays: Mapping[str, Any]) -> str:
    """SHA-256 of a header: the text `about` of its meaning, the digest `data` of the arrays, and their entries."""
    return content_sha256([about, data, dict(arrays)])


def stored_array(name: str, entry: Any, start: int) -> StoredArray:
    """An entry of the header; `start` is the first byte behind the header."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} has other entries than dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{name} has the dtype {dtype}, expected one of {', '.join(DTYPES)}")
    for field, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(number) is int and 0 <= number < LARGEST_NUMBER for number in numbers):
            raise ValueError(f"{name} has the {field} {numbers}, expected whole numbers of at least 0")
    if len(offsets) != 2 or len(shape) > MOST_AXES:
        raise ValueError(f"{name} has {len(offsets)} data_offsets and {len(shape)} axes, expected 2 and at most {MOST_AXES}")
    array = StoredArray(dtype, tuple(shape), start + offsets[0])
    if array.size != offsets[1] - offsets[0]:
        raise ValueError(f"{name} has the shape {shape} of {array.size} bytes between the data_offsets {offsets}")
    return array


def check_places(arrays: Mapping[str, StoredArray], start: int, size: int) -> None:
    """Check that the arrays follow one another from the header's end `start` to the end of a file of `size` bytes, without gaps."""
    end = start
    for name, array in sorted(arrays.items(), key=lambda item: (item[1].offset, item[1].size)):
        if array.offset != end:
            raise ValueError(f"{name} begins at byte {array.offset}, expected {end}")
        end += array.size
    if end != size:
        raise ValueError(f"its arrays end at byte {end}")
