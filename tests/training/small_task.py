"""A small tokenizer task without a trainer, image batches for it, and a guard against device reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.config.compose import compose
from experiments.training.loop import make_task as task_of
from experiments.training.tokenizer_task import TokenizerTask
from tokenizer.interfaces import ImageBatch

SMALL_GSQ = ("quantizer=gsq", "groups=8", "codebook_size=64")


def make_task(*words: str, quantizer_words: tuple[str, ...] = SMALL_GSQ) -> TokenizerTask:
    """Build a task with a stub of the trainer attributes that it uses."""
    task = task_of(compose("train", ["scale=smoke", "updates=4", *quantizer_words, *words]).config)
    task.allocate(torch.device("cpu"))
    optimizers = task.configure_optimizers()
    task._optimizers = lambda: [
        SimpleNamespace(optimizer=o, step=o.step, zero_grad=o.zero_grad, param_groups=o.param_groups) for o in optimizers
    ]
    task.manual_backward = lambda loss: loss.backward()
    task._trainer = SimpleNamespace(log_every_n_steps=10**6, world_size=1, loggers=[], global_rank=0)
    task._fabric = None
    return task


def batch(seed: int, count: int = 4) -> ImageBatch:
    """Smooth random images in [0, 255], as the loader yields them."""
    coarse = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    images = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(-1, 1)
    return ImageBatch((images + 1) * 127.5, torch.full((count,), -1), [f"image {seed}.{i}" for i in range(count)])


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


class HostReads(TorchDispatchMode):
    """Fails on operations that make the host wait for the device."""

    READS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func._schema.name.removeprefix("aten::") not in self.READS, f"{func} reads the device"
        return func(*args, **(kwargs or {}))


@contextmanager
def no_host_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(self, *_):
        raise AssertionError("tolist, numpy or cpu reads the device")

    with monkeypatch.context() as patch, HostReads():
        for name in ("tolist", "numpy", "cpu"):
            patch.setattr(torch.Tensor, name, refuse)
        yield
