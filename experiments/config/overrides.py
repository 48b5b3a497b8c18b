"""The words of a command line, `key=value`: reading them, refusing what Hydra would explain at length, and the jobs of --multirun."""

import itertools
import re
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import OverrideParseException

from experiments.config.checks import nearest
from experiments.config.command_line import choices_of
from experiments.config.errors import ConfigError
from experiments.config.signatures import CONF


def parse(overrides: list[str]) -> list[Override]:
    """Hydra's reading of the words.

    Raises:
        ConfigError: a word cannot be read.
    """
    parser = OverridesParser.create()
    words = []
    for word in overrides:
        try:
            words += parser.parse_overrides([word])
        except OverrideParseException as error:
            if re.fullmatch(r"[\w./@+]+", word):
                raise ConfigError(f"{word}: expected key=value") from error
            raise ConfigError(f"{word}: cannot be read as key=value; quote values with special signs, as in key='\"a b\"'") from error
    return words


def is_group(word: Override, config_dir: Path) -> bool:
    """Whether a word chooses a file of a group."""
    return (config_dir / word.key_or_group).is_dir()


def check_word(word: Override, config_dir: Path) -> None:
    """Refuse what Hydra would accept or explain at length.

    Raises:
        ConfigError: as said.
    """
    text, group = word.input_line, word.key_or_group
    if group == "sweep":
        table = "TABLE" if word.is_sweep_override() or word.value() is None else word.value()
        raise ConfigError(f"{text}: a sweep file holds several runs; python -m experiments.sweep {table} runs them")
    if group.split("/")[0].split(".")[0] == "hydra":
        raise ConfigError(f"{text}: Hydra's own settings have no effect here; -m runs jobs one after another, each in its own process")
    if word.is_sweep_override():
        raise ConfigError(f"{text}: several values; add -m to run each of them, or write {word.get_key_element()}=[...] for a list")
    if not is_group(word, config_dir) or word.is_delete() or isinstance(word.value(), list):
        return
    known = choices_of(config_dir, group)
    if word.value() is None:
        raise ConfigError(f"{text}: leave the word out, or choose one of {', '.join(known)}")
    if str(word.value()) not in known:
        shown = ", ".join(known[:40]) + (" ..." if len(known) > 40 else "")
        raise ConfigError(f"{text}: {group} has no `{word.value()}`{nearest(str(word.value()), known)}; known: {shown}")


def expand(overrides: list[str], config_dir: Path = CONF) -> list[list[str]]:
    """The words of every job of a sweep, the last swept key varying fastest; words that are no sweep stay as they are.

    Raises:
        ConfigError: a word cannot be read, names a range without steps, or matches nothing.
    """
    words = parse(overrides)
    options = []
    for word in words:
        key = word.get_key_element()
        if not word.is_sweep_override():
            options.append([word.input_line or ""])
        elif isinstance(pattern := word.value(), Glob):
            options.append([f"{key}={name}" for name in pattern.filter(choices_of(config_dir, word.key_or_group))])
        elif word.is_discrete_sweep():
            options.append([f"{key}={value}" for value in word.sweep_string_iterator()])
        else:
            raise ConfigError(f"{word.input_line}: expected a list of values, such as {key}=1,2,4")
        if not options[-1]:
            raise ConfigError(f"{word.input_line}: nothing matches, no job would run")
    return [list(job) for job in itertools.product(*options)]


def expand_table(overrides: list[str], config_dir: Path = CONF) -> list[list[str]]:
    """What `--multirun sweep=TABLE ...` asks of experiments.sweep: its words for every combination of the other words' values.

    The seeds of a table's rows are a setting there: `seed=0,1,2` becomes seeds=3.

    Raises:
        ConfigError: several tables or scales, seeds other than 0, 1, ..., or what `expand` refuses.
    """
    words = parse(overrides)
    texts = {key: [word.input_line or "" for word in words if word.key_or_group == key] for key in ("sweep", "scale", "seed")}
    for word in words:
        if word.key_or_group in ("sweep", "scale") and (word.is_sweep_override() or len(texts[word.key_or_group]) > 1):
            raise ConfigError(f"{word.input_line}: expected one table at one scale; run --multirun once for each")
    seeds = [job[0].partition("=")[2] for text in texts["seed"] for job in expand([text], config_dir)]
    if seeds != [str(number) for number in range(len(seeds))]:
        raise ConfigError(f"{texts['seed'][0]}: expected seeds counted from 0, such as seed=0,1,2: a table's rows have no others")
    others = expand([word.input_line or "" for word in words if word.key_or_group not in texts], config_dir)
    fixed = [texts["sweep"][0].partition("=")[2], *texts["scale"], *([f"seeds={len(seeds)}"] if seeds else [])]
    return [[*fixed, *job] for job in others]
