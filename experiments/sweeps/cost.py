"""What a training will take, from its configuration alone: operations counted on the meta device, which has shapes and no memory.

One pass of two pictures goes through everything that an update does, forwards and backwards. What is left out is small: the optimizer,
the soft assignments of an entropy loss, gradient penalties, and metrics other than those of Inception.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from experiments.data.source import ImageSource
from experiments.runs.build import build
from experiments.training.objective import weighted_losses
from experiments.training.schedules import in_updates
from tokenizer.weights import MissingWeightsError, find_weights

PICTURES = 2  # batch norms want more than one
BYTES_PER_PARAMETER = 16  # weight, gradient, and two moments of the optimizer in float32
BYTES_OF_AVERAGE = 4
INCEPTION = 2 * 5.7e9  # operations for a picture
SECONDS_TO_START = 10.0  # importing, building, reading the data
SECONDS_PER_CALL = {"cpu": 15e-6, "cuda": 8e-6}
"""Of one tensor operation, however small: measured over updates of small networks."""
EFFICIENCY = {"cpu": 0.5, "cuda": 0.4}
"""Of an update, against a single convolution of its width over and over."""
SECONDS_OF_MEASUREMENT = 1.0


@dataclass(frozen=True)
class Pass:
    """What a piece of an update takes.

    Attributes:
        flops: for a picture.
        calls: tensor operations, whatever the batch.
        saved: bytes for a picture that are kept for the way back.
    """

    flops: float = 0.0
    calls: int = 0
    saved: float = 0.0


@dataclass(frozen=True)
class Cost:
    """What a run takes.

    Attributes:
        parameters: of the tokenizer.
        discriminator_parameters: 0 if there is none.
        flops: of the whole run, on all devices.
        calls: tensor operations of the whole run, on each device.
        memory: bytes on each device, at the most.
    """

    parameters: int
    discriminator_parameters: int
    flops: float
    calls: float
    memory: float

    def seconds(self, rate: float, devices: int, device: str) -> float:
        """Of the run, at `rate` operations a second of each device."""
        return self.flops / devices / (rate * EFFICIENCY[device]) + self.calls * SECONDS_PER_CALL[device] + SECONDS_TO_START


def cost_of(config: Mapping[str, Any], source: ImageSource, devices: int) -> Cost:
    """Count what the run of a configuration takes on `devices` devices.

    Raises:
        ValueError: it trains no tokenizer.
    """
    if "tokenizer" not in config["task"]:
        raise ValueError("a plan counts trainings of tokenizers, this one is of a generator; run the row without `plan`")
    with torch.device("meta"):
        tokenizer = build(config["task"]["tokenizer"])
        discriminator = build(config["task"]["discriminator"])
        objective = build(weighted_losses(config["task"]["objective"]))
        images = torch.empty(PICTURES, 3, source.image_size, source.image_size)
        made: list[Tensor] = []

        def through() -> None:
            encoded = tokenizer.encoder(images)
            made.append(tokenizer.decoder(encoded.latents, encoded.layout).reconstruction)

        forward = _count(through, tokenizer)
        reconstruction, leaf = made[0], made[0].detach().requires_grad_()
        losses = _count(lambda: _back(objective.total(objective.image_terms(leaf, images))), objective)
        backward = _count(lambda: _back(reconstruction), tokenizer)
        player, judge = _count_game(discriminator, images, leaf)
    table = tokenizer.quantizer.codes
    tokens = math.prod(tokenizer.grid(source.image_size))
    look_up = 0.0 if table is None else 2.0 * tokens * tokenizer.quantizer.groups * table.numel()
    updates = config["updates"]
    played = 1 - in_updates(config["discriminator_start"], updates, "discriminator_start") / updates
    batch, parts = config["batch_size"], config["accumulate"]
    update = look_up + sum(piece.flops for piece in (forward, losses, backward)) + played * (player.flops + judge.flops)
    calls = parts * (sum(piece.calls for piece in (forward, losses, backward)) + played * (player.calls + judge.calls))
    judged = -(-updates // config["validate_every"]) * len(source.val)
    metrics = 3 * INCEPTION if _has_inception() else 0.0
    numbers = [sum(p.numel() for p in part.parameters()) if part is not None else 0 for part in (tokenizer, discriminator)]
    at_once = batch / parts / devices
    half = 0.5 if config["trainer"]["precision"] == "bf16-mixed" else 1.0
    kept = at_once * half * (forward.saved + max(losses.saved, player.saved, judge.saved))
    return Cost(
        parameters=numbers[0],
        discriminator_parameters=numbers[1],
        flops=updates * batch * update + judged * (2 * (forward.flops + look_up) + metrics),
        calls=updates * calls + 2 * judged / at_once * forward.calls,
        memory=kept + BYTES_PER_PARAMETER * sum(numbers) + BYTES_OF_AVERAGE * numbers[0],
    )


def _count_game(discriminator: nn.Module | None, images: Tensor, leaf: Tensor) -> tuple[Pass, Pass]:
    """The discriminator's part of the tokenizer's update, and its own update."""
    if discriminator is None:
        return Pass(), Pass()
    trained = [parameter for parameter in discriminator.parameters() if parameter.requires_grad]
    discriminator.requires_grad_(False)
    player = _count(lambda: _back(discriminator(leaf)), discriminator)
    for parameter in trained:
        parameter.requires_grad_(True)
    judge = _count(lambda: _back(discriminator(images), discriminator(leaf.detach())), discriminator)
    return player, judge


def _back(*outputs: Tensor) -> None:
    torch.autograd.backward([output.sum() for output in outputs])


def _count(work: Callable[[], None], owner: nn.Module) -> Pass:
    """Do `work` on the meta device and count it; the weights of `owner` are not counted among what is saved."""
    weights = {parameter.untyped_storage()._cdata for parameter in owner.parameters()}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    counter, calls = FlopCounterMode(display=False), _Calls()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), counter, calls:
        work()
    kept = sum(tensor.untyped_storage().nbytes() for place, tensor in saved.items() if place not in weights and tensor.is_meta)
    return Pass(counter.get_total_flops() / PICTURES, calls.number, kept / PICTURES)


class _Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts tensor operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += 1
        return func(*args, **(kwargs or {}))


def _has_inception() -> bool:
    try:
        find_weights("inception")
    except MissingWeightsError:
        return False
    return True


@cache
def rate(width: int, image_size: int, batch: int, device: str, half: bool, threads: int) -> float:
    """Operations a second of a convolution of `width` channels, forwards and backwards, measured for a second.

    Args:
        width: channels.
        image_size: pixels a side.
        batch: pictures.
        device: cpu or cuda.
        half: in bfloat16.
        threads: of the CPU.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    kind = torch.bfloat16 if half else torch.float32
    layer = nn.Conv2d(width, width, 3, padding=1, device=device, dtype=kind)
    images = torch.randn(min(batch, 64), width, image_size, image_size, device=device, dtype=kind).requires_grad_()
    best, until = math.inf, time.monotonic() + SECONDS_OF_MEASUREMENT
    while best == math.inf or time.monotonic() < until:
        started = time.monotonic()
        _back(layer(images))
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.monotonic() - started)  # other processes may want the cores now and then
    torch.set_num_threads(before)
    return 3 * 2 * 9 * width**2 * images[:, 0].numel() / best
