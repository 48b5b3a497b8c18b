"""What a configuration may build, whoever wrote it: parts that our files name, and classes of the library and of plugins.

Rows of sweep files, recorded overrides of runs and files of `--config-dir` may come from anybody. Imports none of what they name.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from experiments.config.errors import ConfigError
from experiments.config.packages import CONF, model_packages
from experiments.config.signatures import is_class

TARGET = re.compile(r"\b_target_: *([\w.]+)")


def check_origins(config: Any, path: str = "", folder: Path = CONF) -> None:
    """Check every `_target_` in the part of a resolved configuration at the key `path`.

    It is one of those in our configuration files, which are in `folder`, or a class in `tokenizer` or in a plugin. Other functions and
    classes could write files or start processes.

    Raises:
        ConfigError: names the target.
    """
    for place, target in _targets(config, path):
        if not isinstance(target, str) or not (target in targets_of(folder) or _is_library_class(target)):
            packages = " or ".join(model_packages())
            expected = f"a class of {packages}, or one that {folder.name}/ names"
            raise ConfigError(f"{place}._target_".lstrip("."), target, expected=expected, advice="plugins=[PACKAGE] allows another package")


def _is_library_class(target: str) -> bool:
    return target.split(".")[0] in model_packages() and is_class(target)


def check_plugins(plugins: list[str], overridden: list[str]) -> None:
    """Check that plugins, whose code is imported, are named by an override and not by a file; `overridden` are the keys of overrides.

    Raises:
        ConfigError: names the override to add.
    """
    if plugins and "plugins" not in overridden:
        reason = "a file names it; plugins run code and are named on the command line"
        raise ConfigError("plugins", plugins, reason=reason, advice=f"add plugins=[{','.join(plugins)}]")


@cache
def targets_of(folder: Path) -> frozenset[str]:
    """Every `_target_` in the configuration files of a folder."""
    files = (path for path in folder.rglob("*.yaml") if path.is_file())
    return frozenset(target for path in files for target in TARGET.findall(path.read_text()))


def _targets(config: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(config, dict) and "_target_" in config:
        yield path, config["_target_"]
    entries = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, entry in entries:
        yield from _targets(entry, f"{path}.{key}".lstrip("."))
