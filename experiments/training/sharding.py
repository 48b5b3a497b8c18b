"""Models on several devices: building without a second copy, shards of blocks, gradients and states of plain and sharded tensors.

Only the blocks of trunks are sharded (FSDP2). All other tensors are plain on every device, so that a codebook, the last layer of a
decoder or a head is used as on one device; their gradients are averaged over all processes once per update.
"""

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from tokenizer.layers.distributed import is_distributed, world_size
from tokenizer.layers.trunk import blocks_of

BUCKET = 2**26  # gradients of one all-reduce, in elements


def materialize(model: nn.Module, device: torch.device, mesh: DeviceMesh | None, initialize: bool = True) -> None:
    """Allocate a model that was built on the meta device.

    Everything but the blocks of trunks comes first, then block after block, so that no device holds more than its share and one block.
    The initial values are drawn on the CPU in one order, so that they do not depend on devices, number of processes or sharding.

    Args:
        model: model on the meta device; its `reset_parameters` sets all its tensors.
        device: device of the weights.
        mesh: processes that share the blocks; None to store them whole.
        initialize: whether to draw initial values; otherwise the tensors have no defined values.
    """
    blocks = blocks_of(model)
    in_blocks = {module for block in blocks for module in block.modules()}
    rest = [module for module in model.modules() if module not in in_blocks]
    start = torch.device("cpu") if initialize else device
    for module in rest:
        module.to_empty(device=start, recurse=False)
    if initialize:
        model.reset_parameters()  # type: ignore[operator]  # draws nothing for blocks, which have no memory yet
    for block in blocks:
        block.to_empty(device=start)
        if initialize:
            block.reset_parameters()  # type: ignore[operator]
        block.to(device)
        if mesh is not None:
            fully_shard(block, mesh=mesh, reshard_after_forward=True)  # a block alone would count as the root, which stays whole
    model.to(device)


def synchronize(module: nn.Module) -> None:
    """Copy the plain tensors of the first process to all others."""
    if is_distributed():
        for tensor in chain(module.parameters(), module.buffers()):
            if not isinstance(tensor, DTensor):
                torch.distributed.broadcast(tensor.detach(), src=0)


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor on this device, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients of plain parameters by their means over all processes; those of shards are means already.

    Every process must have gradients of the same parameters.
    """
    if not is_distributed():
        return
    bucket: list[Tensor] = []
    size = 0
    for grad in [p.grad for p in parameters if p.grad is not None and not isinstance(p.grad, DTensor)]:
        if bucket and size + grad.numel() > BUCKET:
            _average(bucket)
            bucket, size = [], 0
        bucket.append(grad)
        size += grad.numel()
    if bucket:
        _average(bucket)


def _average(gradients: list[Tensor]) -> None:
    flat = torch.cat([grad.flatten() for grad in gradients])
    torch.distributed.all_reduce(flat)
    flat /= world_size()
    parts = torch.split(flat, [grad.numel() for grad in gradients])
    torch._foreach_copy_(gradients, [part.view_as(grad) for part, grad in zip(parts, gradients, strict=True)])


def total_norm(gradients: list[Tensor]) -> Tensor:
    """Norm () of all gradients, plain ones and shards, the same on every process."""
    plain = [grad for grad in gradients if not isinstance(grad, DTensor)]
    shards = [local(grad) for grad in gradients if isinstance(grad, DTensor)]
    if not shards:
        return torch.nn.utils.get_total_norm(plain)
    square = torch.nn.utils.get_total_norm(shards) ** 2
    torch.distributed.all_reduce(square)
    return (square + torch.nn.utils.get_total_norm(plain) ** 2).sqrt() if plain else square.sqrt()


def clip_gradients(gradients: list[Tensor], limit: float, norm: Tensor) -> None:
    """Scale gradients of the total norm `norm`, () on the device, to a norm of at most `limit`."""
    torch._foreach_mul_([local(grad) for grad in gradients], (limit / (norm + 1e-6)).clamp(max=1.0))


def full_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts with whole tensors in place of shards, on the CPU; only the first process receives those. Every process must call it."""
    return {name: _full(value) for name, value in state.items()}


def _full(value: Any) -> Any:
    if isinstance(value, Mapping):
        return full_state(value)
    if not isinstance(value, DTensor):
        return value
    whole = value.full_tensor()
    return whole.cpu() if torch.distributed.get_rank() == 0 else torch.empty(0)


def shards_like(target: Tensor, value: Tensor) -> Tensor:
    """A whole tensor, sharded as `target` is."""
    if not isinstance(target, DTensor):
        return value
    return distribute_tensor(value.to(target.device), target.device_mesh, target.placements, src_data_rank=None)


@torch.no_grad()
def load_full(module: nn.Module, state: Mapping[str, Tensor], strict: bool = True) -> None:
    """Copy whole tensors into a module that may be sharded; with `strict`, the names must be the module's."""
    target = module.state_dict()
    module.load_state_dict({name: shards_like(target[name], value) if name in target else value for name, value in state.items()}, strict)
