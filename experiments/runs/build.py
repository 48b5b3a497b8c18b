"""From a resolved configuration to objects. What is trained comes from `trained`, under the same names."""

import logging
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as lightning
import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy

from experiments.training.callbacks.saving import AtomicCheckpointIO
from experiments.data.loading import ImageData
from experiments.data.source import DataSource, ImageSource
from experiments.evaluation.reconstruction import Subject
from experiments.evaluation.cards import describe_losses
from experiments.evaluation.metrics.tokenizer import TokenizerMetrics
from experiments.runs.folder import CONFIG, RunFolder
from experiments.config.signatures import PACKAGES
from experiments.training.clock import ClockedTask
from experiments.runs.model_folder import digest_of, exported_weights, initialize, load_generator, load_tokenizer, recorded_tokenizer, tokenizer_of
from tokenizer import pretrained
from tokenizer.image_tokenizer import ImageTokenizer

__all__ = [
    "build", "count_devices", "data", "digest_of", "exported_weights", "initialize", "load_generator", "load_tokenizer",
    "recorded_tokenizer", "subject", "subjects", "task", "tokenizer_of", "trainer", "weighted_losses", "without_idle_parameters",
]  # fmt: skip

FACTORIES = ("tokenizer", "discriminator", "objective", "generator")
"""Arguments of a task that it builds itself, where the weights shall live."""


def device(setting: str) -> torch.device:
    """Where to compute outside of training: auto (a GPU if there is one), cpu or cuda.

    Raises:
        ValueError: cuda, and there is no GPU.
    """
    there = torch.cuda.is_available()
    if setting == "cuda" and not there:
        raise ValueError("device=cuda: torch finds no GPU on this machine; leave `device` out, or set it to cpu")
    return torch.device("cuda" if setting != "cpu" and there else "cpu")


def build(config: Any) -> Any:
    """The object that a part of the configuration describes."""
    return pretrained.build(config, PACKAGES)


def task(config: Mapping[str, Any]) -> ClockedTask:
    """The LightningModule of a configuration's `task`, its parts not yet built."""
    node = dict(config["task"])
    target = pretrained.locate(node.pop("_target_"), PACKAGES)
    if "objective" in node:
        node["objective"] = weighted_losses(node["objective"])
    arguments = {key: _factory(value) if key in FACTORIES else build(value) for key, value in node.items()}
    built: ClockedTask = target(**arguments)
    return built


def weighted_losses(objective: Mapping[str, Any]) -> dict[str, Any]:
    """An objective's configuration without the losses of weight zero: they may need weights of networks that are not here.

    The adversarial loss stays: its other side trains the discriminator.
    """
    idle = [name for name, weight in objective["weights"].items() if name in objective and name != "adversarial" and not weight]
    return {**objective, **dict.fromkeys(idle)}


def data(config: Mapping[str, Any], source: DataSource) -> ImageData:
    """The loaders over `source`."""
    return ImageData(source, batch_size=config["batch_size"] // config["accumulate"], seed=config["seed"], workers=config["workers"])


def trainer(
    accelerator: Literal["auto", "cpu", "gpu"], devices: int | Literal["auto"], num_nodes: int, precision: Literal["32-true", "bf16-mixed"]
) -> partial[lightning.Trainer]:
    """A Lightning trainer but for its callbacks and loggers: devices, precision, and nothing that counts steps.

    Length, validation, checkpoints and progress go by the task's own clock. In its keywords `devices` is a number.

    Raises:
        ValueError: a GPU is asked for and there is none, or a number of devices or nodes that there cannot be.
    """
    _quieten_lightning()
    gpus, count = _devices(accelerator, devices, num_nodes, torch.cuda.device_count())
    several = num_nodes * count > 1
    # The discriminator takes no part in the generator's backward pass, and the other way round.
    strategy: Strategy | str = DDPStrategy(find_unused_parameters=True) if several else "auto"
    return partial(
        lightning.Trainer,
        accelerator="cuda" if gpus else "cpu",  # never Apple's, which lacks the float64 that sums are kept in
        devices=count,
        num_nodes=num_nodes,
        precision=precision,
        strategy=strategy,
        max_epochs=-1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[AtomicCheckpointIO()],
    )


def without_idle_parameters(make: "partial[lightning.Trainer]") -> "partial[lightning.Trainer]":
    """The trainer of a model all of whose parameters take part in every step: several devices need not look for others."""
    return partial(make, strategy=DDPStrategy()) if isinstance(make.keywords["strategy"], DDPStrategy) else make


def count_devices(config: Mapping[str, Any], gpus: int | None = None) -> int:
    """How many devices share a batch, on all nodes.

    Args:
        config: of the trainer.
        gpus: of a node; None for those that this process sees.

    Raises:
        ValueError: as `trainer` does.
    """
    seen = torch.cuda.device_count() if gpus is None else gpus
    nodes: int = config["num_nodes"]
    return nodes * _devices(config["accelerator"], config["devices"], nodes, seen)[1]


def _devices(accelerator: str, devices: int | str, num_nodes: int, seen: int) -> tuple[int, int]:
    """How many of the `seen` GPUs may be used, and the number of devices of a node."""
    gpus = 0 if accelerator == "cpu" else seen
    if accelerator == "gpu" and not gpus:
        raise ValueError("trainer.accelerator=gpu: torch finds no GPU on this machine; choose trainer=auto or trainer=cpu")
    count = max(gpus, 1) if devices in ("auto", -1) else int(devices)
    if count < 1:
        raise ValueError(f"trainer.devices={devices}: expected a number of at least 1, or auto for all; change `trainer.devices`")
    if gpus and count > gpus:
        raise ValueError(f"trainer.devices={devices}: torch finds {gpus} GPUs on this machine; change `trainer.devices`, or trainer=cpu")
    if num_nodes < 1:
        raise ValueError(f"trainer.num_nodes={num_nodes}: expected at least 1; change `trainer.num_nodes`")
    return gpus, count


def _quieten_lightning() -> None:
    """Lightning's advice about what this project does on purpose."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (".*have no `validation_step`.*", ".*LeafSpec.*is deprecated.*", ".*does not have many workers.*"):
        warnings.filterwarnings("ignore", message)


def subject(
    prefix: str,
    model: ImageTokenizer,
    source: ImageSource,
    seed: int,
    weights: Literal["ema", "raw"],
    losses: str | None,
    same_images_as: TokenizerMetrics | None = None,
) -> Subject:
    """A tokenizer with the metrics that judge it on the evaluation pictures of `source`; `losses` is for the cards."""
    metrics = TokenizerMetrics(
        quantizer=model.quantizer,
        downsample=model.encoder.downsample,
        image_size=source.image_size,
        subject=weights,
        seed=seed,
        transform=source.transform,
        reference=source.reference,
        losses=losses,
        same_images_as=same_images_as,
    )
    return Subject(prefix, model, metrics)


def subjects(path: str | Path, source: ImageSource, seed: int) -> list[Subject]:
    """What is to be judged at `path`: the averaged and the trained weights of a run folder, or the weights of an export."""
    model = load_tokenizer(path, "ema")[0]
    is_run = (Path(path) / CONFIG).is_file()
    losses = describe_losses(RunFolder(Path(path)).config["task"]) if is_run else None
    average = subject("val", model, source, seed, "ema" if is_run else exported_weights(path), losses)
    if not is_run:
        return [average]
    return [average, subject("val_raw", load_tokenizer(path, "raw")[0], source, seed, "raw", losses, same_images_as=average.metrics)]


def _factory(config: Any) -> partial[Any] | None:
    return None if config is None else partial(build, config)
