"""Settings of a verb whose file has no groups: verbs over tables and the one over weights. Hydra could not read their `scale=mini`."""

from typing import Any

from experiments.config.checks import check_missing, unknown_key
from experiments.config.draft import Draft, Source, at, merge
from experiments.config.errors import UNSET, ConfigError, nearest
from experiments.config.files import ConfigFolders, read_yaml
from experiments.config.help_text import FILE_SETTINGS, POSITIONAL
from experiments.config.overrides import check_choice, check_override, parse, value_of, written


def compose_flat(verb: str, name: str, plain: list[str], folders: ConfigFolders) -> tuple[Draft, tuple[str, ...]]:
    """The settings of a verb in the main file `name`, and the overrides that are not its own but those of the training of every row."""
    path = folders.find(name)
    assert path is not None
    keys = read_yaml(path)
    tree: dict[str, Any] = {}
    merge(tree, keys)
    others = []
    for text in _keyed(verb, plain, keys):
        key, _, value = text.partition("=")
        if at(keys, key, UNSET) is UNSET or isinstance(at(keys, key), dict):
            others.append(text)
            continue
        override = parse([text])[0]
        if override.is_sweep_override():
            check_override(override, text, folders)
        *parents, last = key.split(".")
        at(tree, ".".join(parents))[last] = value if key in FILE_SETTINGS else value_of(override)
    draft = Draft(tree, [Source(path, keys)], {}, folders, name, written(plain))
    check_missing(draft)
    if "scale" in tree:
        check_choice("scale", tree["scale"], folders)
    if others and "table" not in keys:
        parse(others)
        raise unknown_key(draft, others[0].partition("=")[0].lstrip("+~"), others[0].partition("=")[2])
    return draft, tuple(others)


def _keyed(verb: str, plain: list[str], keys: dict[str, Any]) -> list[str]:
    """Overrides with the keys that may be left out: `plan` is plan=true, and the first argument without a key is the table of a sweep."""
    positional = [key for key in POSITIONAL[verb] if not any(word.startswith(f"{key}=") for word in plain)]
    switches = [key for key, value in keys.items() if isinstance(value, bool)]
    words = []
    for word in plain:
        if "=" in word or word[0] in "+~":
            words.append(word)
        elif word in switches:
            words.append(f"{word}=true")
        elif positional:
            words.append(f"{positional.pop(0)}={word}")
        else:
            raise ConfigError(word, expected=" or ".join(["key=value", *switches]), nearest=nearest(word, switches))
    return words
