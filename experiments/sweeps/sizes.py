"""Parameters, memory and operations of a training, counted on the meta device, which has shapes and no memory, and of a probe by a formula.

Counted are the convolutions and linear layers of tokenizer and discriminator; losses, look-ups and validations are left out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from experiments.config.errors import ConfigError
from experiments.runs.build import build
from experiments.training.schedules import in_updates
from tokenizer.interfaces import TokenSpec

IMAGES = 2  # batch norms need more than one
BYTES_PER_PARAMETER, BYTES_OF_AVERAGE = 16, 4  # weight, gradient, two moments of the optimizer in float32; EMA
PASSES, DISCRIMINATOR_PASSES = 3, 9  # a backward costs two forwards; the discriminator sees fakes twice and reals once
OPERATIONS_PER_PARAMETER = 2  # of a generator, for a token: a product and a sum
TRIALS = 4  # of a search for the best guidance: the first scale, its neighbors and one more


@dataclass(frozen=True)
class Size:
    """Size of a training.

    Attributes:
        parameters: of the tokenizer.
        discriminator_parameters: 0 if there is none.
        memory: bytes on each device.
        operations: of the whole run, on all devices.
    """

    parameters: int
    discriminator_parameters: int
    memory: float
    operations: float


def size_of(config: Mapping[str, Any], image_size: int, devices: int) -> Size:
    """Count a training.

    Args:
        config: resolved configuration.
        image_size: pixels of a side.
        devices: number of devices that share a batch.

    Raises:
        ConfigError: it trains no tokenizer.
    """
    if "tokenizer" not in config["task"]:
        raise ConfigError("plan", True, reason="only trainings of tokenizers are counted", advice="run the row without `plan`")
    with torch.device("meta"):
        tokenizer, discriminator = build(config["task"]["tokenizer"]), build(config["task"]["discriminator"])
        images = torch.empty(IMAGES, 3, image_size, image_size)
        operations, activations = _count(tokenizer, lambda: _reconstruct(tokenizer, images))
        of_discriminator, its_activations = _count(discriminator, lambda: discriminator(images)) if discriminator else (0.0, 0.0)
    parameters, others = (sum(p.numel() for p in part.parameters()) if part else 0 for part in (tokenizer, discriminator))
    at_once = config["batch_size"] / config["accumulate"] / devices
    updates = config["updates"]
    adversarial_updates = updates - in_updates(config["discriminator_start"], updates, "discriminator_start")
    half = 0.5 if config["trainer"]["precision"] == "bf16-mixed" else 1.0
    stored = BYTES_PER_PARAMETER * (parameters + others) + BYTES_OF_AVERAGE * parameters
    return Size(
        parameters=parameters,
        discriminator_parameters=others,
        memory=stored + at_once * half * (activations + its_activations),
        operations=config["batch_size"] * (updates * PASSES * operations + adversarial_updates * DISCRIMINATOR_PASSES * of_discriminator),
    )


def operations_of_probe(parameters: int, tokens: TokenSpec, probe: Mapping[str, Any], training: Mapping[str, Any]) -> float:
    """Operations of a probe's generator on all devices, in its training and in its samples; tokenizer and linear probes are left out.

    Args:
        parameters: of the generator.
        tokens: sizes of the tokens.
        probe: configuration of the probe.
        training: configuration of the generator's training.
    """
    of_image = OPERATIONS_PER_PARAMETER * parameters * tokens.num_tokens
    samples, tried = probe["samples"], min(probe["samples"], probe["guidance"]["samples"])
    if tokens.num_classes:  # a guided sample has a row with its class and one without; the best scale is sampled again
        samples = 2 * (TRIALS * tried + (samples if samples > tried else 0))
    return float(of_image * (PASSES * training["updates"] * training["batch_size"] + samples))


def _reconstruct(tokenizer: Any, images: Tensor) -> None:
    encoded = tokenizer.encoder(images)
    tokenizer.decoder(encoded.latents, encoded.layout)


def _count(part: nn.Module, run: Callable[[], Any]) -> tuple[float, float]:
    """Operations of a forward pass and bytes of the outputs of all layers, for one image."""
    operations = bytes_of_outputs = 0.0

    def count(layer: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal operations, bytes_of_outputs
        weight = getattr(layer, "weight", None)
        if isinstance(output, Tensor):
            bytes_of_outputs += output.nbytes
            if isinstance(weight, Tensor) and weight.ndim > 1:
                operations += 2 * weight.numel() * output.numel() / weight.shape[0]

    hooks = [layer.register_forward_hook(count) for layer in part.modules() if not list(layer.children())]
    run()
    for hook in hooks:
        hook.remove()
    return operations / IMAGES, bytes_of_outputs / IMAGES
