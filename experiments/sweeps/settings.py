"""The command line of a verb over tables: its own settings, and words that belong to every row's training.

`python -m experiments.sweep gsq/table01_codebook plan scale=mini data.root=FOLDER`: the first bare word is the table, a bare word that
names a setting of yes or no turns it on, `key=value` of a key that `conf/<verb>.yaml` declares is a setting, and the rest is handed on.
Hydra cannot read it, because `sweep` and `scale` are groups of its own. Imports neither torch nor Hydra.
"""

import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.config.checks import nearest
from experiments.config.command_line import COLUMNS, choices_of, run_command, setting_lines
from experiments.config.errors import ConfigError
from experiments.config.signatures import CONF, NUMBERS
from experiments.tables.reading import sweep_names

LINE = re.compile(r"^( *)(\w+):\s*([^#\n]*?)\s*(?:#\s*(.*))?$", re.MULTILINE)

Settings = dict[str, Any]
Choices = Mapping[str, Sequence[str]]


def main(
    verb: str, run: Callable[[Settings, list[str]], int | None], description: str, choices: Choices | None = None, config_dir: Path = CONF
) -> None:
    """Read the command line, call `run` with the settings and the words for every row's training; ends the process.

    Args:
        verb: name of the module in experiments and of the file in conf.
        run: does the work; imports what is heavy inside. What it returns is the exit status.
        description: one sentence for --help.
        choices: the words that a setting may have, where it is no group of conf.
        config_dir: where the configuration files lie.
    """

    def command(words: list[str]) -> int | None:
        if {"-h", "--help"} & set(words):
            sys.stdout.write(help_text(verb, description, config_dir))
            return 0
        return run(*read_settings(verb, words, config_dir, choices or {}))

    run_command(command)


def read_settings(verb: str, words: list[str], config_dir: Path = CONF, choices: Choices | None = None) -> tuple[Settings, list[str]]:
    """The settings of a verb and the words that are not its own.

    Args:
        verb: its file in conf declares the settings; one without a default, `???`, is text.
        words: of the command line.
        config_dir: where the configuration files lie.
        choices: the words that a setting may have; one that is a group of conf may name any file of that.

    Returns:
        The settings, nested as in the file; the other words.

    Raises:
        ConfigError: a word that is no table, a value of another type, a table that is not named.
    """
    settings: Settings = yaml.safe_load((config_dir / f"{verb}.yaml").read_text())
    tables, others = sweep_names(config_dir), []
    for word in words:
        key, given, value = word.partition("=")
        if word.startswith("-"):
            raise ConfigError(f"{word}: unknown option; known: --help; settings are written key=value")
        if not given:
            _take_bare(word, settings, tables)
        elif (place := _place(settings, key)) is None:
            others.append(word)
        else:
            known = (choices or {}).get(key) or (choices_of(config_dir, key) if (config_dir / key).is_dir() else ())
            place[key.rpartition(".")[2]] = _typed(word, value, place[key.rpartition(".")[2]], known)
    if settings["table"] == "???":
        raise ConfigError(f"name a table, as in `python -m experiments.{verb} {tables[0]}`; known: {', '.join(tables)}")
    return settings, others


def help_text(verb: str, description: str, config_dir: Path) -> str:
    """Usage, the tables, the settings with their defaults and comments, and examples."""
    content = (config_dir / f"{verb}.yaml").read_text()
    settings, parents = [], [""]
    for indent, key, value, comment in LINE.findall(content):
        parents[len(indent) // 2 :] = [key]
        settings.append((".".join(parents), value, comment))
    tables = sweep_names(config_dir)
    wrapped = textwrap.wrap("  ".join(tables), COLUMNS, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    lines = [f"usage: python -m experiments.{verb} TABLE [key=value]", "", description, "", "Tables:", *wrapped]
    lines += ["", "Settings:", *setting_lines([entry for entry in settings if entry[1]])]
    lines += ["", "All other words belong to every row's training, as in python -m experiments.train --help", "", "Examples:"]
    command = f"  python -m experiments.{verb} {tables[0]}"
    bare = [f"{command} {key}" for key, value, _ in settings if value == "false"]
    return "\n".join([*lines, command, *bare, f"{command} scale=paper data.root=FOLDER", ""])


def _take_bare(word: str, settings: Settings, tables: list[str]) -> None:
    switches = [key for key, value in settings.items() if isinstance(value, bool)]
    if word in switches:
        settings[word] = True
    elif settings["table"] != "???":
        expected = " or ".join(["key=value", *switches])
        raise ConfigError(f"{word}: expected {expected}; the table is {settings['table']}{nearest(word, switches)}")
    elif word.removesuffix(".yaml") in tables or any(name.startswith(f"{word}_") for name in tables):
        settings["table"] = word
    else:
        raise ConfigError(f"{word}: there is no such table{nearest(word, [*tables, *switches])}; known: {', '.join(tables)}")


def _place(settings: Settings, key: str) -> Settings | None:
    """The mapping that holds a dotted key; None if the key is not declared."""
    *parents, name = key.split(".")
    place: Any = settings
    for parent in parents:
        place = place.get(parent) if isinstance(place, dict) else None
    return place if isinstance(place, dict) and name in place and not isinstance(place[name], dict) else None


def _typed(word: str, text: str, default: Any, known: Sequence[str]) -> Any:
    """The value of a word, of its default's type."""
    key = word.partition("=")[0]
    if known and text not in known:
        raise ConfigError(f"{word}: expected one of {', '.join(known)}{nearest(text, known)}; change `{key}`")
    if default is None:
        return None if text == "null" else text
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise ConfigError(f"{word}: expected true or false (bool); change `{key}`")
        return text == "true"
    if isinstance(default, int):
        if not re.fullmatch(r"[0-9]+", text) or int(text) < 1:
            raise ConfigError(f"{word}: expected {NUMBERS['int']} of at least 1; change `{key}`")
        return int(text)
    return text
