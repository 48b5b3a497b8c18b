"""Full fp32 precision for distances, entropies, determinants and frozen networks, which bf16 and TF32 make inaccurate.

For random unit vectors a bf16 product finds the nearest of 8192 codes for only 96 % of the rows.
torch has these settings once per process, not per thread. So they are changed by the first thread that enters and restored by the last one
that leaves, and not written at all where they allow nothing but full precision.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch


@dataclass(frozen=True)
class _Setting:
    """Attribute of a backend, and its value for full precision."""

    owner: Any
    name: str
    full: Any

    def write(self) -> Callable[[], None] | None:
        """Set full precision; a function that undoes it, or None if nothing had to be written."""
        try:
            before = getattr(self.owner, self.name)
        except RuntimeError:  # torch refuses to summarize operators that differ, which have settings of their own below
            return None
        if before in (self.full, "none"):
            return None
        setattr(self.owner, self.name, self.full)
        return lambda: setattr(self.owner, self.name, before)


class _Products:
    """The setting of all matrix products as an attribute."""

    @property
    def precision(self) -> str:
        """highest, high or medium."""
        return torch.get_float32_matmul_precision()

    @precision.setter
    def precision(self, value: str) -> None:
        torch.set_float32_matmul_precision(value)


_BACKENDS: Any = torch.backends
_OPERATORS = (_BACKENDS.cuda.matmul, _BACKENDS.cudnn.conv, _BACKENDS.mkldnn.matmul, _BACKENDS.mkldnn.conv)
SETTINGS = (
    _Setting(_Products(), "precision", "highest"),
    _Setting(_BACKENDS.cudnn, "allow_tf32", False),
    *(_Setting(operator, "fp32_precision", "ieee") for operator in _OPERATORS),
)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Disable autocast on `device`, and TF32 and bf16 in fp32 matrix products and convolutions on all devices."""
    _SHARED.enter()
    try:
        with torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else nullcontext():
            yield
    finally:
        _SHARED.leave()


def full_precision_unless_autocast(device: torch.device) -> AbstractContextManager[None]:
    """`full_precision` where autocast is off on `device`; where it is on, its lower precision was asked for and nothing changes."""
    return nullcontext() if torch.is_autocast_enabled(device.type) else full_precision(device)


def compute_dtype(*tensors: torch.Tensor) -> torch.dtype:
    """fp32, or float64 if one of the tensors is."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


class _SharedSettings:
    """Full precision while at least one thread is inside."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.threads = 0
        self.undo: list[Callable[[], None]] = []

    def enter(self) -> None:
        """Set full precision for the first thread."""
        with self.lock:
            if self.threads == 0:
                self.undo = [undo for setting in SETTINGS if (undo := setting.write())]
            self.threads += 1

    def leave(self) -> None:
        """Restore the settings after the last thread."""
        with self.lock:
            self.threads -= 1
            if self.threads == 0:
                while self.undo:
                    self.undo.pop()()


_SHARED = _SharedSettings()
