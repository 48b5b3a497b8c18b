"""Checks of a configuration that need no import of what it names: keys that a file declares, arguments that constructors have.

Every check works on plain containers and raises one `ConfigError`.
"""

import re
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from experiments.config.draft import MAIN_GROUPS, OVERRIDING_GROUPS, Draft, at, dotted, source_key
from experiments.config.errors import UNSET, ConfigError, nearest
from experiments.config.files import choices_in, read_yaml
from experiments.config.signatures import signature
from tokenizer.files import kind_of, other_kind


def check_missing(draft: Draft) -> None:
    """No value is left as `???`."""
    missing = [key for key in dotted(draft.raw) if at(draft.raw, key) == "???"]
    if not missing:
        return
    key = missing[0]
    path = next((source.path for source in reversed(draft.sources) if at(source.keys, key) == "???"), None)
    if path is None:
        raise ConfigError(key, "???", expected="a value; Hydra reads ??? as one that is missing")
    comment = re.search(rf"^\s*{key.rpartition('.')[2]}:\s*\?\?\?\s*#\s*(.+?)\s*$", path.read_text(), re.MULTILINE)
    group, _, choice = draft.folders.name(path).partition("/")
    reason = f"is required by {group}={choice}" if choice else "is required"
    raise ConfigError(key, reason=reason, expected=comment[1] if comment else "", advice=f"add `{key}=...`")


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
            raise unknown_key(draft, f"{path}.{next(iter(value))}")  # the chosen file states that there is no such part
        elif isinstance(known, dict) and known:
            if isinstance(value, dict):
                _check_keys(draft, value, known, path + ".")
            elif value is not None and "${" not in str(value):
                group = next((name for name in draft.choices if path in (name, name.rpartition("@")[2])), None)
                advice = f"choose a file with `{group}=...`" if group else None
                raise ConfigError(path, value, expected=f"the keys {', '.join(known)}", place=draft.place(path), advice=advice)


def unknown_key(draft: Draft, key: str, value: Any = UNSET) -> ConfigError:
    """The error for a key that no selected file declares, with the choices that declare it or the nearest key.

    A `value` is that of the command line; without one the key is in the tree.
    """
    place = draft.place(key) if value is UNSET else ""
    value = at(draft.raw, key) if value is UNSET else value
    reason = f"this configuration has no key `{key}`"
    for mount, choice in draft.choices.items():
        group = mount.partition("@")[0]
        files = draft.folders.files(group) if group not in OVERRIDING_GROUPS else []
        others = [f"{group}={path.stem}" for path in files if "@package _global_" in path.read_text() and key in read_yaml(path)]
        if others:
            advice = f"{mount}={choice} does not declare it, {', '.join(others[:4])} does"
            return ConfigError(key, value, reason=reason, place=place, advice=advice)
    parent = at(draft.raw, key.rpartition(".")[0])
    arguments = signature(parent["_target_"]) if isinstance(parent, dict) and "_target_" in parent else {}
    if (name := key.rpartition(".")[2]) in arguments:
        advice = f"write +{key}=..."
        return ConfigError(key, value, reason=f"{reason} yet, but {parent['_target_']} takes `{name}`", place=place, advice=advice)
    known = [*dotted(draft.declared), *(f"{key.rpartition('.')[0]}.{argument}" for argument in arguments)]
    source = source_key(draft.raw, key)
    near = source if source != key and at(draft.raw, source, UNSET) is not UNSET else nearest(key, known)
    beside = [name for name in parent if name != "_target_"] if isinstance(parent, dict) and "." in key else []
    expected = f"one of {', '.join(beside)}" if beside and not near else ""
    advice = "" if near or beside else _elsewhere(draft, key)
    return ConfigError(key, value, reason=reason, expected=expected, nearest=near, place=place, advice=advice)


def _elsewhere(draft: Draft, key: str) -> str:
    """The other verbs that have a key, and where to read about this one's."""
    files = {verb: draft.folders.find(verb) for verb in draft.folders.verbs()}
    verbs = [f"experiments.{verb}" for verb, path in files.items() if path and key in read_yaml(path)]
    return f"{', '.join(verbs)} ha{'s' if len(verbs) == 1 else 've'} one; " * bool(verbs) + "--help lists the keys"


def unknown_group(draft: Draft, mount: str, value: Any, place: str = "") -> ConfigError:
    """The error for a choice in a group that this configuration does not have; it names the task that has it."""
    for group in MAIN_GROUPS:
        chosen = draft.choices.get(group)
        for path in draft.folders.files(group) if chosen else []:
            if any(mount in (name, name.partition("@")[2]) for name in choices_in(path)):
                reason = f"{group}={chosen} has no group `{mount}`"
                return ConfigError(mount, value, reason=reason, place=place, advice=f"{group}={path.stem} has it")
    if not draft.choices:
        return ConfigError(mount, value, reason=f"{draft.verb} has no groups", place=place)
    reason = f"{draft.verb} has no group `{mount}`"
    mounts = [name for name in draft.choices if name.partition("@")[0] == mount.partition("@")[0]]
    near = mounts[0] if len(mounts) == 1 else nearest(mount, mounts or draft.choices)
    return ConfigError(mount, value, reason=reason, expected=f"one of {', '.join(draft.choices)}", nearest=near, place=place, advice="")


def check_targets(config: Any, path: str = "") -> None:
    """Every node with a `_target_`, in the part of a resolved configuration at the key `path`, has the arguments of its constructor."""
    if isinstance(config, dict) and "_target_" in config:
        _check_call(config, path)
    entries = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, entry in entries:
        check_targets(entry, f"{path}.{key}".lstrip("."))


def _check_call(config: dict[str, Any], path: str) -> None:
    target = str(config["_target_"])
    try:
        arguments = signature(target)
    except ConfigError as error:
        raise error.at(path) from None
    for name in config:
        if name != "_target_" and name not in arguments:
            near = nearest(name, arguments)
            expected = "" if near else f"one of {', '.join(arguments) or 'none'}"
            reason = f"{target} has no argument `{name}`"
            raise ConfigError(f"{path}.{name}", config[name], reason=reason, expected=expected, nearest=near, advice="")
    absent = [name for name, required in arguments.items() if required and name not in config]
    if absent:
        advice = f"add `+{path}.{absent[0]}=...` or state it in the YAML"
        raise ConfigError(path, reason=f"{target} needs {', '.join(absent)}", advice=advice)


def check_output(path: Path, is_file: bool) -> None:
    """Refuse a value of `output` that cannot be written to; creates nothing."""
    if is_file and (kind := other_kind(path)):
        raise ConfigError("output", str(path), expected=f"a file; it is {kind}")
    there = nearest_existing(path)
    folder = there.parent if is_file and there == path else there
    try:
        with TemporaryFile(dir=folder):  # it has no name; a user who may write everywhere may not on a file system that is read-only
            pass
    except OSError as error:
        reason = f"{folder} is not a folder that can be written to ({error.strerror})"
        raise ConfigError("output", str(path), reason=reason) from error


def check_folder(path: Path, key: str) -> None:
    """Refuse a path that is no folder and cannot become one; one that can be read alone may still be looked up.

    Raises:
        ConfigError: names the key.
    """
    there = nearest_existing(path)
    if not there.is_dir():
        raise ConfigError(key, str(path), reason=f"{there} is {kind_of(there.stat().st_mode)}", expected="a folder")


def nearest_existing(path: Path) -> Path:
    """A path, or the nearest of its parents that exists."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())
