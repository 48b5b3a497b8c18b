"""Checks of constructor arguments and inputs. Every message has the value, the expectation and the configuration key to change."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

LARGEST_VALUE = 8.0  # of an image; far above what normalization, augmentation or a decoder gives, far below 255


class ArgumentError(ValueError):
    """An argument of a constructor that is out of range.

    Args:
        key: its configuration key, or its name alone where that is the key.
        value: its value.
        expected: description of valid values.

    Attributes:
        name: name of the argument, the last part of the key.
    """

    def __init__(self, key: str, value: Any, expected: str) -> None:
        super().__init__(f"{key}={value}, expected {expected}; change {key}")
        self.name, self.value, self.expected = key.rpartition(".")[2], value, expected


def require_at_least(key: str, value: float, minimum: float) -> None:
    """Refuse a number below `minimum`, infinity and NaN."""
    if not minimum <= value < math.inf:
        raise ArgumentError(key, value, f"at least {minimum}")


def require_positive(key: str, value: float) -> None:
    """Refuse zero, negative numbers, infinity and NaN."""
    if not 0 < value < math.inf:
        raise ArgumentError(key, value, "above 0")


def require_rate(key: str, value: float) -> None:
    """Refuse a number that is not in [0, 1)."""
    if not 0 <= value < 1:
        raise ArgumentError(key, value, "at least 0 and below 1")


def require_one_of(key: str, value: str, choices: Iterable[str]) -> None:
    """Refuse an unknown choice."""
    if value not in choices:
        raise ArgumentError(key, value, f"one of {', '.join(choices)}")


def require_side(images: Tensor, smallest: int, key: str) -> None:
    """Refuse images (B, 3, H, W) with a side below `smallest` pixels, which `key` determines."""
    height, width = images.shape[-2:]
    if min(height, width) < smallest:
        raise ValueError(f"images have {height} x {width} pixels, expected at least {smallest} per side; raise image_size or lower {key}")


def require_images(images: Tensor) -> None:
    """Refuse all but float images (B, 3, H, W)."""
    if images.dim() != 4 or images.shape[1] != 3:
        hint = "use images.unsqueeze(0)" if images.dim() == 3 and images.shape[0] == 3 else "are channels last, or are they gray or RGBA?"
        raise ValueError(f"images are {tuple(images.shape)}, expected (B, 3, H, W); {hint}")
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}, expected a float type in [-1, 1]; use images.float() / 127.5 - 1")


def require_range(images: Tensor) -> None:
    """Refuse images with values far outside [-1, 1]; NaN passes.

    On a CUDA device the values are checked by a device-side assertion, so that the host does not wait for the device.
    """
    if images.is_meta or not images.numel() or torch.compiler.is_compiling():
        return
    largest = torch.stack(torch.aminmax(images.detach())).abs().max()
    if images.is_cuda:
        torch._assert_async(~(largest > LARGEST_VALUE), f"images are beyond {LARGEST_VALUE}, expected [-1, 1]")
    elif largest > LARGEST_VALUE:
        raise ValueError(f"images have a value of magnitude {largest:g}, expected [-1, 1]; use images / 127.5 - 1 for 0 to 255")


def require_labels(labels: Tensor, null_label: int) -> None:
    """Refuse all but integer labels (B,) from 0 to the null label; waits for the device once."""
    wrong_type = labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool
    if wrong_type or labels.dim() != 1 or len(labels) == 0:
        raise ValueError(f"labels are {tuple(labels.shape)} of {labels.dtype}, expected integers (B,), not empty")
    low, high = torch.stack(labels.aminmax()).tolist()
    if low < 0 or high > null_label:
        expected = f"0 to {null_label - 1}, or {null_label} for no class" if null_label else "0, since the generator has no classes"
        raise ValueError(f"label {low if low < 0 else high}, expected {expected}")


def require_indices(indices: Tensor, groups: int, codebook_size: int, any_rank: bool = False) -> Tensor:
    """Indices as int64, after a check of their shape, type and range.

    On a CUDA device the range is checked by a device-side assertion, so that the host does not wait for the device.

    Args:
        indices: (B, N, groups) of any integer type in [0, codebook_size).
        groups: G.
        codebook_size: V.
        any_rank: whether (..., groups) is allowed too.

    Raises:
        ValueError: wrong shape or type, or an index out of range.
    """
    wrong_type = indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool
    if wrong_type or not (any_rank or indices.dim() == 3) or indices.shape[-1:] != (groups,):
        raise ValueError(f"indices are {tuple(indices.shape)} of {indices.dtype}, expected integers (B, N, {groups})")
    indices = indices.long()
    if indices.is_cuda:
        torch._assert_async(((indices >= 0) & (indices < codebook_size)).all(), f"an index is out of range 0 to {codebook_size - 1}")
    elif indices.numel() and not indices.is_meta and not torch.compiler.is_compiling():
        for index in (int(indices.min()), int(indices.max())):
            if not 0 <= index < codebook_size:
                raise ValueError(
                    f"index {index} is out of range, expected 0 to {codebook_size - 1}; do the indices belong to this codebook?"
                )
    return indices
