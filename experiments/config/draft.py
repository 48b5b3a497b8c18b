"""A configuration before its interpolations are resolved: its files, and where the value of a key is set."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.config.errors import TEXT, UNSET, ConfigError
from experiments.config.files import ConfigFolders
from experiments.config.overrides import typed

OVERRIDING_GROUPS = ("experiment", "scale", "sweep", "debug")
MAIN_GROUPS = ("task", "protocol")  # groups whose chosen file belongs to the verb's own: it brings groups and settings
KEY_RESOLVERS = ("divisor_of", "length", "levels_of")


@dataclass(frozen=True)
class Source:
    """One YAML file of a composition, with its keys nested under the package that it is mounted at."""

    path: Path
    keys: dict[str, Any]


@dataclass(frozen=True)
class Draft:
    """A configuration with interpolations still in place."""

    raw: dict[str, Any]  # interpolations are strings
    sources: list[Source]  # in the order in which they are merged, the verb's own file among them
    choices: dict[str, str | None]  # the chosen file of each group
    folders: ConfigFolders
    verb: str  # name of the main file
    words: Mapping[str, str] = field(default_factory=dict)  # of the command line: values by key, as they are written

    @property
    def declared(self) -> dict[str, Any]:
        """The union of the keys of all files that may declare keys."""
        tree: dict[str, Any] = {}
        for source in self.sources:
            if not self.overrides(source):
                merge(tree, source.keys)
        return tree

    def overrides(self, source: Source) -> bool:
        """Whether a file may only change keys that others declare."""
        return self.folders.name(source.path).split("/")[0] in OVERRIDING_GROUPS

    def place(self, key: str) -> str:
        """The experiment or scale file that sets the value of a key; empty if none does."""
        value = at(self.raw, key)
        files = [source.path for source in self.sources if self.overrides(source) and at(source.keys, key, UNSET) == value]
        return self.folders.label(files[-1]) if files else ""

    def explain(self, error: ConfigError) -> ConfigError:
        """An error about a place in the tree as one about the key that sets it, with the file that does so."""
        key, place = source_key(self.raw, error.key), source_key(self.raw, error.place) if error.place else ""
        if error.expected.startswith(TEXT) and not isinstance(error.value, str | None) and key in self.words:
            error = error.changed(advice=f"as text it is written {typed(key, self.words[key])}")
        return error.changed(key=key, place=place or self.place(key))


def dotted(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """All keys of a tree, dotted from the root."""
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{key}.")


def at(tree: Any, key: str, missing: Any = None) -> Any:
    """The value of a dotted key; entries of lists are keys too."""
    for part in key.split(".") if key else []:
        if isinstance(tree, list) and part.isdigit() and int(part) < len(tree):
            tree = tree[int(part)]
        elif isinstance(tree, dict) and part in tree:
            tree = tree[part]
        else:
            return missing
    return tree


def merge(tree: dict[str, Any], keys: dict[str, Any], replace: bool = False) -> None:
    """Add keys to a tree, in place. With `replace` a value takes the place of a mapping, as in a composition; otherwise all keys stay."""
    for key, value in keys.items():
        if isinstance(value, dict):
            below = tree.get(key)
            tree[key] = below if isinstance(below, dict) else {}
            merge(tree[key], value, replace)
        elif replace or not isinstance(tree.get(key), dict):
            tree[key] = value


def named_key(raw: Any) -> str | None:
    """The key that an interpolation reads, `${groups}` or `${divisor_of:groups,latent_dim}`; None for anything else."""
    found = re.fullmatch(r"\$\{(?:(\w+):)?(\w[\w.]*)(?:,[^{}]*)?\}", raw) if isinstance(raw, str) else None
    return found[2] if found and found[1] in (None, *KEY_RESOLVERS) else None


def source_key(raw: dict[str, Any], key: str) -> str:
    """The key that sets the value of a key: interpolations are followed."""
    parts = key.split(".")
    for number in range(1, len(parts) + 1):
        target = named_key(at(raw, ".".join(parts[:number])))
        if target:
            return source_key(raw, ".".join([target, *parts[number:]]))
    return key
