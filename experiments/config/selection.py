"""The files that a command line selects, and whether its overrides have a place in them. Hydra lists the files and composes nothing yet."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from experiments.config.checks import check_keys, unknown_group, unknown_key
from experiments.config.draft import MAIN_GROUPS, OVERRIDING_GROUPS, Draft, Source, at, merge
from experiments.config.errors import UNSET, ConfigError, spelled
from experiments.config.files import ConfigFolders, choices_in, read_defaults, read_yaml
from experiments.config.overrides import check_choice, mount_of, value_of
from experiments.config.parsing import read_file

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


@contextmanager
def hydra_loader(folders: ConfigFolders) -> Iterator[Any]:
    """Hydra's loader of configuration files, over all folders."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(folders.main)):
        loader: Any = GlobalHydra.instance().config_loader()
        for folder in folders.added:
            loader.get_search_path().prepend("command line", f"file://{folder}", anchor="schema")  # after our own folder
        loader.repository.initialize_sources(loader.get_search_path())
        loader.repository.load_config = _bounded(loader.repository.load_config, folders)
        yield loader


def _bounded(load_config: Callable[[str], Any], folders: ConfigFolders) -> Callable[[str], Any]:
    """Hydra's reader of one file, which has no bounds, after ours for a file that is not of this project."""

    def load(config_path: str) -> Any:
        path = folders.find(config_path)
        if path is not None and not path.is_relative_to(folders.main):
            read_file(path)
        return load_config(config_path)

    return load


def select(name: str, overrides: "list[Override]", folders: ConfigFolders, loader: Any) -> Draft:
    """The files that a command line chooses, started from the main file `name`.

    Raises:
        ConfigError: an override of a group or key that these files do not have.
    """
    from hydra.errors import HydraException

    groups = [override for override in overrides if folders.is_group(override.key_or_group)]
    try:
        draft = _draft(name, [override.input_line or "" for override in groups], folders, loader)
    except HydraException:
        _check_groups(name, groups, folders, loader)  # has a message of ours for most of what Hydra refuses
        raise
    for override in (override for override in overrides if override not in groups):
        key, value = mount_of(override), value_of(override)
        exists = at(draft.raw, key, UNSET) is not UNSET
        if "@" in key and exists:  # a key of a protocol's groups
            parent, _, entry = key.rpartition(".")
            reason = "on the command line an @ is part of the name of a group"
            raise ConfigError(key, value, reason=reason, advice=f"write '{parent}={{{entry}:{spelled(value)}}}'")
        if override.is_add() and not override.is_force_add() and exists:
            raise ConfigError(f"+{key}", value, reason="the key exists already", advice="write it without +")
        unknown = [] if override.is_add() else [pair for pair in _entries(key, value, draft.raw) if at(draft.raw, pair[0], UNSET) is UNSET]
        if unknown:
            check_keys(draft)  # a file that does not go with the others may have removed the key's group
            raise unknown_key(draft, *unknown[0])
    return draft


def _entries(key: str, value: Any, raw: dict[str, Any]) -> list[tuple[str, Any]]:
    """The keys that an override changes: a mapping is merged into the one that the key has."""
    if isinstance(value, dict) and isinstance(at(raw, key), dict):
        return [pair for name, entry in value.items() for pair in _entries(f"{key}.{name}", entry, raw)]
    return [(key, value)]


def _check_groups(name: str, overrides: "list[Override]", folders: ConfigFolders, loader: Any) -> None:
    """Refuse a choice in a group that the configuration does not have, made on the command line or in a chosen experiment or scale."""
    chosen = {mount_of(override): override for override in overrides}
    plain = [(key, value_of(word), "") for key, word in chosen.items() if not word.is_add() and not word.is_delete()]
    of_files = [choice for key, value, _ in plain if key in OVERRIDING_GROUPS for choice in _choices_of_file(f"{key}/{value}", folders)]
    choices = [*of_files, *plain]
    draft = _draft(name, {}, folders, loader)
    tasks = {mount: value for mount, value, _ in choices if mount in MAIN_GROUPS and mount in draft.choices}
    draft = _draft(name, tasks, folders, loader) if tasks else draft
    while unknown := [choice for choice in choices if choice[0] not in draft.choices]:  # another choice may bring its group
        fits = not any(place for _, _, place in unknown)
        words = {mount: value for mount, value, _ in choices if mount in draft.choices and (fits or mount not in OVERRIDING_GROUPS)}
        known, draft = draft.choices, _draft(name, words, folders, loader)
        if set(known) == set(draft.choices):
            raise unknown_group(draft, *unknown[0])
    for key, word in chosen.items():
        if word.is_add() and key in draft.choices:
            raise ConfigError(f"+{key}", value_of(word), reason=f"the group `{key}` has a choice already", advice="write it without +")


def _draft(name: str, groups: Mapping[str, Any] | list[str], folders: ConfigFolders, loader: Any) -> Draft:
    """The files that choices of groups select, merged as Hydra merges them."""
    from hydra.types import RunMode

    words = groups if isinstance(groups, list) else [f"{mount}={spelled(value)}" for mount, value in groups.items()]
    defaults = loader.compute_defaults_list(name, words, RunMode.RUN)
    raw: dict[str, Any] = {}
    sources = []
    for file in defaults.defaults:
        path = folders.find(file.config_path) if file.config_path and not file.config_path.startswith("hydra/") else None
        if path:
            keys = read_yaml(path)
            for part in reversed(file.package.split(".") if file.package else []):
                keys = {part: keys}
            sources.append(Source(path, keys))
            merge(raw, keys, replace=True)
    choices = {mount: choice for mount, choice in sorted(defaults.overrides.known_choices.items()) if not mount.startswith("hydra/")}
    return Draft(raw, sources, choices, folders, name)


def _choices_of_file(name: str, folders: ConfigFolders) -> list[tuple[str, Any, str]]:
    """The groups that an experiment or scale file overrides, with choice and file, those of the files that it starts from first."""
    path = folders.find(name)
    if path is None:
        return []
    found: list[tuple[str, Any, str]] = []
    for entry in read_defaults(path):
        if isinstance(entry, str) and entry != "_self_":
            base = entry.removeprefix("/") if entry.startswith("/") else f"{name.rpartition('/')[0]}/{entry}"
            found += _choices_of_file(base, folders)
    for mount, value in choices_in(path, overriding=True).items():
        if value is not None:
            check_choice(mount, value, folders, folders.label(path))
        found.append((mount, value, folders.label(path)))
    return found
