"""From a part of a resolved configuration to the object that it describes."""

from collections.abc import Mapping
from typing import Any

from experiments.config.arguments import check_arguments
from experiments.config.errors import ConfigError, config_errors
from experiments.config.packages import buildable_packages
from tokenizer import pretrained
from tokenizer.layers.checks import ArgumentError


def build(config: Any, place: str = "", packages: tuple[str, ...] | None = None) -> Any:
    """Build the object that a configuration describes, inner parts first.

    Args:
        config: a dict with `_target_`, a class or function, and its arguments; a list or dict of such; or a plain value, which is returned.
        place: dotted key of `config` in the whole configuration, for messages.
        packages: packages that a `_target_` may name; by default those of a configuration of the command line.

    Raises:
        ConfigError: an argument has another type than its annotation, or a constructor refuses it. The key of an error that names an
            argument is the argument's in the whole configuration.
    """
    packages = packages or buildable_packages()
    if isinstance(config, list | tuple):
        return [build(entry, f"{place}.{number}", packages) for number, entry in enumerate(config)]
    if not isinstance(config, Mapping):
        return config
    node = {key: build(value, f"{place}.{key}".lstrip("."), packages) for key, value in config.items()}
    if "_target_" not in node:
        return node
    with config_errors(place or node["_target_"]):
        check_arguments(pretrained.locate(node["_target_"], packages), node, place)
        try:
            return pretrained.build(node, packages)  # its arguments are built: they are passed through
        except ConfigError as error:
            if error.key not in node:
                raise
            raise error.changed(key=f"{place}.{error.key}".lstrip(".")) from error
        except ArgumentError as error:
            if error.name not in node:
                raise
            raise ConfigError(f"{place}.{error.name}".lstrip("."), error.value, expected=error.expected) from error
