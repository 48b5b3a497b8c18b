"""The training of a probe's generator: its overrides, and its check before there are any tokens."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments.config.arguments import check_tree
from experiments.config.compose import Composition, compose
from experiments.config.errors import ConfigError, spelled
from experiments.config.files import ConfigFolders
from experiments.config.overrides import check_choice, for_children, last_of_each

if TYPE_CHECKING:
    from tokenizer.interfaces import Generator, TokenSpec


def check_groups(groups: Mapping[str, Any], folders: ConfigFolders) -> None:
    """Refuse a choice of the training that its group does not have, before a tokenizer is loaded.

    Args:
        groups: choices by group, `training.groups` of a protocol.
        folders: configuration files.
    """
    for mount, choice in groups.items():
        try:
            check_choice(mount, choice, folders)
        except ConfigError as error:
            raise error.changed(key=f"training.groups.{mount}") from None


def training_overrides(config: Mapping[str, Any], trainer: str, cache: str, tokenizer: str) -> list[str]:
    """Overrides of `experiments.train` for a generator; apart from machine and data the same for all tokenizers of a probe.

    Args:
        config: configuration of the probe.
        trainer: chosen file of that group.
        cache: token cache that it learns.
        tokenizer: folder of the tokenizer that wrote it.
    """
    training = config["training"]
    overrides = ["task=generator", "data=indices", f"trainer={trainer}", *_flat(training["groups"]), *_flat(training["settings"])]
    overrides += [_override(f"trainer.{key}", value) for key, value in config["trainer"].items() if key != "_target_"]
    overrides += [_override(key, config[key]) for key in ("seed", "workers", "runs_folder")]
    return last_of_each([*overrides, _override("data.file", cache), _override("tokenizer", tokenizer)])


def plan_generator(probe: Composition, tokens: "TokenSpec", image_size: int, gpus: int | None) -> tuple["Generator", dict[str, Any]]:
    """The generator of a probe on the meta device, and the configuration of its training, for tokens that do not exist yet.

    Args:
        probe: configuration of the probe; its folder of the tokenizer is not read.
        tokens: sizes of the tokens.
        image_size: side of the images in pixels.
        gpus: number of GPUs that the training will see; None for those of this process.

    Raises:
        ConfigError: a setting of the training is wrong, or does not go with these tokens.
    """
    import torch

    from experiments.runs.build import build
    from experiments.training.preparation import check_batch

    sizes = {"image_size": image_size, **{f"tokens.{field}": value for field, value in vars(tokens).items()}}
    overrides = training_overrides(probe.config, str(probe.choices["trainer"]), "tokens", "tokenizer") + _flat(sizes)
    training = compose("train", [*for_children(probe.overrides), *overrides], probe.draft.folders.main)
    try:
        check_tree(training.config["task"], "task")
        check_batch(training.config, gpus)
        with torch.device("meta"):
            return build(training.config["task"]["generator"], "task.generator"), training.config
    except ConfigError as error:
        raise training.draft.explain(error) from error


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    overrides = []
    for key, value in settings.items():
        overrides += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [_override(prefix + key, value)]
    return overrides


def _override(key: str, value: Any) -> str:
    """`key=value`; text in quotes, because a path may have characters with a meaning in Hydra's grammar."""
    if isinstance(value, str) and not value.replace("_", "").replace("-", "").isalnum():
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"{key}='{escaped}'"
    return f"{key}={spelled(value)}"
