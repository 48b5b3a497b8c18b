"""From a resolved configuration to objects; from a run folder or an export to a trained tokenizer."""

import hashlib
import logging
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as lightning
import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import nn

from experiments.callbacks.checkpoints import AtomicCheckpointIO, load_checkpoint, newest_checkpoint
from experiments.data.loading import ImageData
from experiments.data.source import ImageSource
from experiments.evaluation import Subject
from experiments.metrics.card import describe_losses
from experiments.metrics.tokenizer import TokenizerMetrics
from experiments.run_folder import CONFIG, RunFolder
from experiments.tasks.tokenizer import STATE, TokenizerTask
from tokenizer import pretrained
from tokenizer.image_tokenizer import ImageTokenizer

log = logging.getLogger(__name__)

PACKAGES = ("tokenizer", "experiments")
FACTORIES = ("tokenizer", "discriminator", "objective")
"""Arguments of a task that it builds itself, where the weights shall live."""


def build(config: Any) -> Any:
    """The object that a part of the configuration describes."""
    return pretrained.build(config, PACKAGES)


def task(config: Mapping[str, Any]) -> TokenizerTask:
    """The LightningModule of a configuration's `task`, its parts not yet built."""
    node = dict(config["task"])
    target = pretrained.locate(node.pop("_target_"), PACKAGES)
    node["objective"] = weighted_losses(node["objective"])
    arguments = {key: _factory(value) if key in FACTORIES else build(value) for key, value in node.items()}
    built: TokenizerTask = target(**arguments)
    return built


def weighted_losses(objective: Mapping[str, Any]) -> dict[str, Any]:
    """An objective's configuration without the losses of weight zero: they may need weights of networks that are not here.

    The adversarial loss stays: its other side trains the discriminator.
    """
    idle = [name for name, weight in objective["weights"].items() if name in objective and name != "adversarial" and not weight]
    return {**objective, **dict.fromkeys(idle)}


def data(config: Mapping[str, Any], source: ImageSource) -> ImageData:
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
    is_run = (Path(path) / CONFIG).is_file()
    losses = describe_losses(RunFolder(Path(path)).config["task"]) if is_run else None
    average = subject("val", load_tokenizer(path, "ema")[0], source, seed, "ema", losses)
    if not is_run:
        return [average]
    return [average, subject("val_raw", load_tokenizer(path, "raw")[0], source, seed, "raw", losses, same_images_as=average.metrics)]


def load_tokenizer(path: str | Path, weights: Literal["ema", "raw"] = "ema") -> tuple[ImageTokenizer, dict[str, Any]]:
    """A trained tokenizer, in eval mode on the CPU, with the configuration that builds it.

    Args:
        path: a run folder, or a folder written by `python -m experiments.export`.
        weights: of a run folder, the averaged or the trained ones.

    Raises:
        ValueError: the folder is neither, or has no checkpoint.
    """
    path = Path(path)
    if (path / pretrained.CONFIG_FILE).is_file():
        loaded, config = pretrained.load(path)
        if not isinstance(loaded, ImageTokenizer):
            raise ValueError(f"{path} holds a {type(loaded).__name__}, not an ImageTokenizer")
        return loaded, config
    if not (path / CONFIG).is_file():
        raise ValueError(f"{path} is neither a run folder nor an exported tokenizer: it has no {CONFIG} and no {pretrained.CONFIG_FILE}")
    folder = RunFolder(path)
    config = folder.config["task"]["tokenizer"]
    checkpoint = newest_checkpoint(folder.checkpoints)
    if checkpoint is None:
        raise ValueError(f"{path} has no checkpoint that can be read; let its run reach `checkpoint_every` updates first")
    model: ImageTokenizer = build(config)
    model.load_state_dict(_tokenizer_state(load_checkpoint(checkpoint), weights))
    return model.eval(), config


def digest_of(module: nn.Module) -> str:
    """Twelve hexadecimal digits of names, dtypes, shapes and bytes of a module's tensors, wherever they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def initialize(model: ImageTokenizer, path: str | Path) -> None:
    """Take from another tokenizer what has the same name and shape, and say what was taken, missing and unused."""
    try:
        theirs = load_tokenizer(path)[0].state_dict()
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"init_from={path}: {error}; change `init_from`") from error
    ours = model.state_dict()
    matched = {name: value for name, value in theirs.items() if name in ours and ours[name].shape == value.shape}
    if not matched:
        raise ValueError(f"init_from={path}: none of its tensors has a name and shape of this tokenizer; change `init_from`")
    model.load_state_dict({**ours, **matched})
    for title, names in (("missing there", sorted(set(ours) - set(matched))), ("unused", sorted(set(theirs) - set(matched)))):
        log.info("init_from: %d tensors %s%s", len(names), title, f": {', '.join(names)}" if names else "")
    log.info("init_from: %d tensors taken from %s", len(matched), path)


def _factory(config: Any) -> partial[Any] | None:
    return None if config is None else partial(build, config)


def _tokenizer_state(checkpoint: dict[str, Any], weights: Literal["ema", "raw"]) -> dict[str, Any]:
    if weights == "ema":
        return dict(checkpoint[STATE]["average"])
    return {name.removeprefix("tokenizer."): value for name, value in checkpoint["state_dict"].items() if name.startswith("tokenizer.")}
