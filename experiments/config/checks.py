"""What must hold of a composed configuration: keys that something declares, values that constructors accept.

Every check works on plain containers and raises one `ConfigError` that names the value, what was expected and the key to change.
"""

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.config.errors import ConfigError
from experiments.config.signatures import NUMBERS, Argument, show, signature

OVERRIDING_GROUPS = ("experiment", "scale", "sweep", "debug")
MAIN_GROUPS = ("task", "protocol")
"""Groups whose chosen file belongs to the verb's own: it brings groups and settings of its own."""
KEY_RESOLVERS = ("divisor_of", "at_least", "length")
KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false (bool)"),
    int: ((int,), NUMBERS["int"]),
    float: ((int, float), NUMBERS["float"]),
}


@dataclass(frozen=True)
class Source:
    """One YAML file of a composition.

    Attributes:
        path: the file.
        keys: its content, nested under the package that it is mounted at.
    """

    path: Path
    keys: dict[str, Any]


@dataclass(frozen=True)
class Draft:
    """A configuration as Hydra composed it, with interpolations still in place.

    Attributes:
        raw: the tree; interpolations are strings.
        sources: its files, in the order in which they were merged; the verb's own file among them.
        choices: the chosen file of each group.
        folder: where the configuration files lie.
        verb: the name of the main file.
    """

    raw: dict[str, Any]
    sources: list[Source]
    choices: dict[str, str | None]
    folder: Path
    verb: str

    @property
    def declared(self) -> dict[str, Any]:
        """The union of the keys of all files that may declare keys."""
        tree: dict[str, Any] = {}
        for source in self.sources:
            if not self.overrides(source):
                _merge(tree, source.keys)
        return tree

    def overrides(self, source: Source) -> bool:
        """Whether a file may only change keys that others declare."""
        return source.path.relative_to(self.folder).parts[0] in OVERRIDING_GROUPS

    def cause(self, key: str) -> str:
        """`key=value`, and the experiment or scale file that sets it so, if one does."""
        text = f"{key}={show(_at(self.raw, key))}"
        for source in self.sources:
            if self.overrides(source) and _at(source.keys, key, missing=self) == _at(self.raw, key):
                return f"{self.folder.name}/{source.path.relative_to(self.folder)} sets {text}"
        return text


@cache
def read_yaml(path: Path) -> dict[str, Any]:
    """The keys of a configuration file, interpolations as strings, without its defaults list."""
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    return {str(key): value for key, value in content.items() if key != "defaults"} if isinstance(content, dict) else {}


def nearest(key: str, keys: Iterable[str]) -> str:
    """`; nearest: ...` for the most similar dotted key, among its siblings if it has any; nothing if none is similar."""
    keys = list(keys)
    parent, _, name = key.rpartition(".")
    siblings = {other.rpartition(".")[2]: other for other in keys if other.rpartition(".")[0] == parent}
    found = [siblings[close] for close in difflib.get_close_matches(name, siblings, 1)]
    if not found and not (parent and siblings):
        found = difflib.get_close_matches(key, keys, 1) or [other for other in keys if other.rpartition(".")[2] == name]
    return f"; nearest: `{found[0]}`" if found else ""


def dotted(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """All keys of a tree, dotted from the root."""
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{key}.")


def check_missing(draft: Draft) -> None:
    """No value is left as `???`."""
    missing = [key for key in dotted(draft.raw) if _at(draft.raw, key) == "???"]
    if not missing:
        return
    key = missing[0]
    source = next(source for source in reversed(draft.sources) if _at(source.keys, key) == "???")
    comment = re.search(rf"^\s*{key.rpartition('.')[2]}:\s*\?\?\?\s*#\s*(.+?)\s*$", source.path.read_text(), re.MULTILINE)
    place = source.path.relative_to(draft.folder).with_suffix("")
    reason = f" by {place.parts[0]}={'/'.join(place.parts[1:])}" if len(place.parts) > 1 else ""
    raise ConfigError(key, reason=f"is required{reason}", advice=f"add `{key}=...`{f' ({comment[1]})' if comment else ''}")


def check_keys(draft: Draft) -> None:
    """Every key is declared by a selected file; experiment and scale files, and the command line, only change keys."""
    _check_keys(draft, draft.raw, draft.declared, "")


def _check_keys(draft: Draft, config: dict[str, Any], declared: dict[str, Any], prefix: str) -> None:
    for key, value in config.items():
        path = prefix + key
        known = declared.get(key)
        if key not in declared:
            if "_target_" not in config:
                raise unknown_key(draft, path)
        elif known is None and path in draft.choices and isinstance(value, dict) and "_target_" not in value:
            raise unknown_key(draft, f"{path}.{next(iter(value))}")  # the chosen file says that there is no such part
        elif isinstance(known, dict) and known:
            if isinstance(value, dict):
                _check_keys(draft, value, known, path + ".")
            elif value is not None and "${" not in str(value):
                group = next((name for name in draft.choices if path in (name, name.rpartition("@")[2])), None)
                instead = f"; choose a file with `{group}=...`" if group else ""
                raise ConfigError(f"{draft.cause(path)}: expected the keys {', '.join(known)}{instead}")


def unknown_key(draft: Draft, key: str, cause: str = "") -> ConfigError:
    """The error for a key that no selected file declares; it names the choices that would declare it, or the nearest key."""
    text = f"{cause or draft.cause(key)}: this configuration has no key `{key}`"
    for mount, choice in draft.choices.items():
        group = mount.partition("@")[0]
        files = sorted((draft.folder / group).glob("*.yaml")) if group not in OVERRIDING_GROUPS else []
        found = [f"{group}={path.stem}" for path in files if "@package _global_" in path.read_text() and key in read_yaml(path)]
        if found:
            return ConfigError(f"{text} ({mount}={choice} does not declare it; {', '.join(found[:4])} does)")
    parent = _at(draft.raw, key.rpartition(".")[0])
    arguments = signature(parent["_target_"]) if isinstance(parent, dict) and "_target_" in parent else {}
    if (name := key.rpartition(".")[2]) in arguments:
        return ConfigError(f"{text} yet, but {parent['_target_']} takes `{name}`: write +{key}=...")
    known = [*dotted(draft.declared), *(f"{key.rpartition('.')[0]}.{argument}" for argument in arguments)]
    beside = [name for name in parent if name != "_target_"] if isinstance(parent, dict) else []
    return ConfigError(text + (nearest(key, known) or (f"; beside it: {', '.join(beside)}" if beside else _elsewhere(draft, key))))


def unknown_group(draft: Draft, mount: str, word: str) -> ConfigError:
    """The error for a choice in a group that this configuration does not have; it names the task that has it."""
    for group in MAIN_GROUPS:
        chosen = draft.choices.get(group)
        for path in sorted((draft.folder / group).glob("*.yaml")) if chosen else []:
            if re.search(rf"^\s*- (override )?/{re.escape(mount)}:", path.read_text(), re.MULTILINE):
                about = re.findall(r"^# (?!@)(.+)$", (draft.folder / group / f"{chosen}.yaml").read_text(), re.MULTILINE)[:1]
                told = f"{group}={chosen}{f' ({about[0]})' if about else ''}"
                return ConfigError(f"{word}: {told} has no group `{mount}`; {group}={path.stem} has it")
    return ConfigError(f"{word}: {draft.verb} has no group `{mount}`; it has {', '.join(draft.choices)}")


def _elsewhere(draft: Draft, key: str) -> str:
    """The other verbs that have a key, and where to read about this one's."""
    verbs = [f"experiments.{path.stem}" for path in sorted(draft.folder.glob("*.yaml")) if key in read_yaml(path)]
    return f" ({', '.join(verbs)} ha{'s' if len(verbs) == 1 else 've'} one)" * bool(verbs) + "; --help lists the keys"


def check_types(draft: Draft, resolved: dict[str, Any]) -> None:
    """A top-level number or truth value of the verb's file, or of its task's, is overridden by one of its kind."""
    main = [f"{draft.verb}.yaml", *(f"{group}/{draft.choices[group]}.yaml" for group in MAIN_GROUPS if draft.choices.get(group))]
    defaults = {key: default for name in main for key, default in read_yaml(draft.folder / name).items()}
    for key, default in defaults.items():
        if type(default) not in KINDS:
            continue
        kinds, expected = KINDS[type(default)]
        value = resolved.get(key)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ConfigError(f"{draft.cause(key)}: expected {expected}; change `{key}`")


def check_setting(config: dict[str, Any], key: str, choices: tuple[str, ...] = (), minimum: int | None = None) -> None:
    """A setting that no constructor takes is one of `choices`, or at least `minimum`."""
    value = config[key]
    if choices and value not in choices:
        raise ConfigError(f"{key}={show(value)}: expected one of {', '.join(choices)}; change `{key}`")
    if minimum is not None and not (isinstance(value, int) and value >= minimum):
        raise ConfigError(f"{key}={show(value)}: expected a whole number of at least {minimum}; change `{key}`")


def check_output(path: Path, is_file: bool) -> None:
    """Refuse a place where what `output` names cannot be written; makes nothing."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if is_file and there == path and there.is_dir():
        raise ConfigError(f"output={path}: it is a folder, expected a file; change `output`")
    if not (is_file and there == path) and not (there.is_dir() and os.access(there, os.W_OK)):
        raise ConfigError(f"output={path}: {there} is no folder that can be written to; change `output`")


def check_targets(draft: Draft, resolved: dict[str, Any]) -> None:
    """Every node with a `_target_` has the arguments that its constructor takes."""
    _check_targets(draft, draft.raw, resolved, "")


def _check_targets(draft: Draft, raw: Any, resolved: Any, path: str) -> None:
    if isinstance(raw, list):
        for place, (entry, value) in enumerate(zip(raw, resolved, strict=True)):
            _check_targets(draft, entry, value, f"{path}.{place}")
    if not isinstance(raw, dict):
        return
    if "_target_" in raw:
        _check_call(draft, raw, resolved, path)
    for key, entry in raw.items():
        _check_targets(draft, entry, resolved[key], f"{path}.{key}" if path else key)


def _check_call(draft: Draft, raw: dict[str, Any], resolved: dict[str, Any], path: str) -> None:
    target = str(resolved["_target_"])
    try:
        arguments = signature(target)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    for name, value in resolved.items():
        if name == "_target_":
            continue
        if name not in arguments:
            near = nearest(name, arguments) or f"; it has {', '.join(arguments) or 'none'}"
            raise ConfigError(f"{draft.cause(f'{path}.{name}')}: {target} has no argument `{name}`{near}")
        if not arguments[name].accepts(value):
            raise _wrong_value(draft, named_key(raw[name]) or f"{path}.{name}", value, f"{target} {name}", arguments[name])
    absent = [name for name, argument in arguments.items() if argument.required and name not in resolved]
    if absent:
        raise ConfigError(f"{path}: {target} needs {', '.join(absent)}; add `+{path}.{absent[0]}=...` or state it in the YAML")


def _wrong_value(draft: Draft, key: str, value: Any, argument: str, expected: Argument) -> ConfigError:
    close = difflib.get_close_matches(str(value), expected.words, 1)
    near = f" (nearest: {close[0]})" if close else ""
    cause = draft.cause(key) if _at(draft.raw, key) == value else f"{key}={show(value)}"
    return ConfigError(f"{cause}: expected {expected.expectation}{near}, for {argument}; change `{key}`")


def named_key(raw: Any) -> str | None:
    """The key that an interpolation reads, `${groups}` or `${divisor_of:groups,latent_dim}`; None for anything else."""
    found = re.fullmatch(r"\$\{(?:(\w+):)?(\w[\w.]*)(?:,[^{}]*)?\}", raw) if isinstance(raw, str) else None
    return found[2] if found and found[1] in (None, *KEY_RESOLVERS) else None


def _at(tree: Any, key: str, missing: Any = None) -> Any:
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return missing
        tree = tree[part]
    return tree


def _merge(tree: dict[str, Any], keys: dict[str, Any]) -> None:
    for key, value in keys.items():
        if isinstance(value, dict):
            below = tree.get(key)
            tree[key] = below if isinstance(below, dict) else {}
            _merge(tree[key], value)
        elif not isinstance(tree.get(key), dict):
            tree[key] = value
