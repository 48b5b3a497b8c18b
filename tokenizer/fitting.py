"""Models for weights from untrusted files: all sizes are compared on the meta device before anything is allocated."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "I64": torch.int64, "I32": torch.int32}
MAX_PARTS = 20_000  # modules and tensors of a model; the largest in conf/ have a tenth
PARTS_BESIDE, PARTS_PER_TENSOR = 500, 6  # of a model whose weights have few tensors
MAX_BUFFER_BYTES = 1 << 30  # of tensors that are not saved


def build_for(weights: Mapping[str, Tensor], make: Callable[[], nn.Module]) -> nn.Module:
    """Build a model for weights that are to be loaded into it, after a comparison of all sizes: nothing is allocated before.

    Args:
        weights: tensors by name, which may be on the meta device.
        make: builds the model on the current device.

    Raises:
        ValueError: the model has too many parts, or a tensor of another name, shape or type of number than the weights; names the first.
    """
    try:
        most = min(MAX_PARTS, PARTS_BESIDE + PARTS_PER_TENSOR * len(weights))
        with torch.device("meta"), few_parts(most, f", its weights have {len(weights):,} tensors"):
            model = make()
        if not isinstance(model, nn.Module):
            raise ValueError("no model is described")
        require_fit(model, weights)
    except (TypeError, AttributeError, LookupError, ArithmeticError, MemoryError, RecursionError, RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"the description of the model cannot be built: {reason}") from error
    return make()


def require_fit(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Compare the tensors of a model, which may be on the meta device, with weights.

    Floating-point numbers may have another precision of at least 16 bits; other numbers need the same type.

    Raises:
        ValueError: names the first difference with both values.
    """
    state = model.state_dict()
    for name, tensor in state.items():
        if name not in weights:
            raise ValueError(f"{name} is absent among its {len(weights)} tensors, the model has {len(state)}")
        stored = weights[name]
        if stored.shape != tensor.shape:
            raise ValueError(f"{name} has the shape {list(stored.shape)}, expected {list(tensor.shape)}")
        if stored.dtype != tensor.dtype and not {stored.dtype, tensor.dtype} <= FLOATS:
            raise ValueError(f"{name} has numbers of type {stored.dtype}, expected {tensor.dtype}")
    unused = sorted(set(weights) - set(state))
    if unused:
        raise ValueError(f"{unused[0]} is in no part of the model, which has {len(state)} tensors of {len(weights)}")
    extra = sum(buffer.nbytes for name, buffer in model.named_buffers() if name not in state)
    if extra > MAX_BUFFER_BYTES:
        raise ValueError(f"the model needs {extra:,} bytes beside its weights, expected at most {MAX_BUFFER_BYTES:,}")


def require_finite(weights: Mapping[str, Tensor]) -> None:
    """Check that all weights are finite.

    Raises:
        ValueError: names the first tensor that has another number.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{name} has {int((~torch.isfinite(tensor)).sum())} numbers that are not finite, of {tensor.numel()}")


def digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 in hexadecimal digits of names, dtypes, shapes and bytes of tensors on any device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def few_parts(most: int = MAX_PARTS, why: str = "") -> Iterator[None]:
    """Refuse to build more than `most` modules and tensors within the block.

    Raises:
        ValueError: with `why` at its end.
    """
    count = itertools.count(1)

    def check(*_: Any) -> None:
        if next(count) > most:
            raise ValueError(f"the model has more than {most:,} modules and tensors{why}")

    with ExitStack() as hooks:
        for register in (
            register_module_module_registration_hook,
            register_module_parameter_registration_hook,
            register_module_buffer_registration_hook,
        ):
            hooks.callback(register(check).remove)
        yield


def stored_sizes(path: Path) -> dict[str, Tensor]:
    """Tensors on the meta device of a safetensors file, of which only the header is read; the library checks offsets, overlaps, gaps."""
    with safe_open(path, "pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    unknown = [f"{name} has numbers of type {each.get_dtype()}" for name, each in slices.items() if each.get_dtype() not in DTYPES]
    if unknown:
        raise ValueError(f"{unknown[0]}, expected one of {', '.join(DTYPES)}")
    return {name: torch.empty(each.get_shape(), dtype=DTYPES[each.get_dtype()], device="meta") for name, each in slices.items()}
