"""Models in folders: what a run folder or an export records, read without torch."""

import json
from pathlib import Path
from typing import Any

import yaml

from experiments.config.errors import ConfigError
from experiments.config.signatures import show


def check_export(folder: Path, weights: str) -> None:
    """An exported model holds the weights that it holds, whatever `weights` says; of a run folder both can be had."""
    about = folder / "config.json"
    if about.is_file():
        held = json.loads(about.read_text()).get("trained_with", {}).get("weights", weights)
        if held != weights:
            raise ConfigError(f"weights={weights}: {folder} holds the {held} weights; set weights={held}")


def recorded(key: str, value: Any, setting: str) -> Any:
    """A setting that a run folder or an exported model was made with; `tokens` is what the run found its tokens to be."""
    if not isinstance(value, str) or not Path(value).expanduser().exists():
        raise ConfigError(f"{key}={show(value)}: expected a file or folder that exists; change `{key}`")
    folder = Path(value).expanduser()
    in_run = "environment.json" if setting == "tokens" else "config.yaml"
    for name, part in ((in_run, None), ("config.json", "trained_with")):
        if (folder / name).is_file():
            settings = _read(folder / name, key)
            settings = settings if part is None else settings.get(part) or {}
            if setting in settings:
                return settings[setting]
            raise ConfigError(f"{key}={folder}: its {name} does not say `{setting}`: is it a tokenizer, of this version? change `{key}`")
    raise ConfigError(f"{key}={folder}: expected a run folder or an exported model, it has no {in_run} and no config.json; change `{key}`")


def _read(file: Path, key: str) -> dict[str, Any]:
    """A file of keys and values, YAML or JSON, in a folder that the value of `key` names."""
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{key}={file.parent}: its {file.name} cannot be read: {' '.join(str(error).split())}; change `{key}`") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{key}={file.parent}: its {file.name} is not that of a run or of a model; change `{key}`")
    return content
