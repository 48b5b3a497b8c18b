"""The words of a command line, `key=value`: reading them, refusing what Hydra would explain at length, and the jobs of --multirun."""

import itertools
import re
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import OverrideParseException

from experiments.command_line import choices_of
from experiments.config_checks import nearest
from experiments.signatures import CONF, ConfigError
from experiments.tables.reading import read_sweep


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
        raise ConfigError(f"{text}: a sweep file holds several runs; add --multirun, or use python -m experiments.sweep {word.value()}")
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

    `sweep=gsq/table01_codebook` stands for the rows of that file, in its order, at the scale that a word `scale=` names.

    Raises:
        ConfigError: a word cannot be read, names a range without steps, or matches nothing.
    """
    words = parse(overrides)
    chosen = {word.key_or_group: str(word.value()) for word in words if word.key_or_group in ("sweep", "scale")}
    if "sweep" in chosen:
        sweep, scale = read_sweep(chosen["sweep"], config_dir), chosen.get("scale", "paper")
        others = expand([word.input_line or "" for word in words if word.key_or_group not in chosen], config_dir)
        return [sweep.words(row, scale, seed=None, extra=job) for row in sweep.runs for job in others]
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
