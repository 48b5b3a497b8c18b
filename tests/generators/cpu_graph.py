"""A CUDA graph on the CPU: recording changes no tensor, and replaying repeats the recorded operations on the recorded tensors."""

from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class CPUGraph:
    """In place of torch.cuda.CUDAGraph."""

    def __init__(self) -> None:
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def pool(self) -> None:
        return None

    def replay(self) -> None:
        for function, args, kwargs, output in self.operations:
            inputs = {storage(tensor) for tensor in tensors((args, kwargs))}
            for recorded, result in zip(tensors(output), tensors(function(*args, **kwargs)), strict=True):
                if storage(recorded) not in inputs:  # not a view, nor written in place
                    recorded.copy_(result)


class Recording(TorchDispatchMode):
    """In place of torch.cuda.graph."""

    def __init__(self, graph: CPUGraph, pool: None, capture_error_mode: str) -> None:
        super().__init__()
        assert capture_error_mode == "thread_local", "other threads allocate while a graph is recorded"
        self.graph = graph
        self.before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert "_local_scalar_dense" not in str(function), "a tensor is read on the host"
        if function._schema.is_mutable:
            self.before += [(tensor, tensor.clone()) for tensor in tensors((args, kwargs))]
        output = function(*args, **(kwargs or {}))
        self.graph.operations.append((function, args, kwargs or {}, output))
        return output

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        super().__exit__(kind, error, traceback)
        for tensor, value in reversed(self.before):
            tensor.copy_(value)


def use_cpu_graphs(monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", CPUGraph)
    monkeypatch.setattr(torch.cuda, "graph", Recording)
