"""Overrides of a command line, `key=value`: parsing, what is refused before Hydra sees it, and the jobs of --multirun."""

import itertools
import re
import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config.errors import UNSET, ConfigError, nearest
from experiments.config.files import ConfigFolders
from experiments.config.packages import CONF
from experiments.config.paths import with_home

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

PLAIN_TEXT = re.compile(r"""[^()\[\]{},'"\\$\x00-\x1f]+""")  # read as text where Hydra's grammar has no meaning for it
CONFIG_DIR, CONFIG_NAME = "--config-dir=", "--config-name="  # options that count as overrides: they are recorded with a run


def split(arguments: list[str]) -> tuple[list[str], tuple[Path, ...], str | None]:
    """Overrides without the options among them, the folders of `--config-dir`, which must exist, and `--config-name`."""
    options = [word for word in arguments if word.startswith((CONFIG_DIR, CONFIG_NAME))]
    folders = [Path(with_home(word.removeprefix(CONFIG_DIR))).resolve() for word in options if word.startswith(CONFIG_DIR)]
    absent = [str(folder) for folder in folders if not folder.is_dir()]
    if absent:
        raise ConfigError("--config-dir", absent[0], expected="a folder of configuration files", advice="")
    name = next((word.removeprefix(CONFIG_NAME) for word in reversed(options) if word.startswith(CONFIG_NAME)), None)
    return [word for word in arguments if word not in options], tuple(folders), name


def key_of(word: str) -> str:
    """The key of an override without the sign of what happens to it; an option counts with its value, since several may be given."""
    return word if word.startswith(CONFIG_DIR) else word.partition("=")[0].lstrip("+~")


def check_different(overrides: list[str]) -> None:
    """Refuse two overrides of one key, of which Hydra would use the last in silence.

    Raises:
        ConfigError: names the key and both.
    """
    earlier: dict[str, str] = {}
    for word in overrides:
        key = key_of(word)
        if key in earlier:
            reason = f"it is there twice, {earlier[key]} and {word}"
            raise ConfigError(key, word.partition("=")[2] or UNSET, reason=reason, advice="leave one of them out")
        earlier[key] = word


def last_of_each(overrides: list[str]) -> list[str]:
    """The last override of each key, for a command that is made of several parts."""
    last = {word.partition("=")[0] if key_of(word) != word else word: place for place, word in enumerate(overrides)}
    return [word for place, word in enumerate(overrides) if place in last.values()]


def for_children(overrides: list[str]) -> list[str]:
    """Those of the overrides that a command started by this one needs too: where other packages and their files are."""
    return [override for override in overrides if override.startswith((CONFIG_DIR, "plugins="))]


def parse(overrides: list[str]) -> "list[Override]":
    """Hydra's reading of overrides; a ConfigError for one that cannot be read.

    Text without brackets, quotes, commas, `$` and backslashes needs no quotes: letters of any language, `~`, `#` and `=` may be in it.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    parser = OverridesParser.create()
    parsed = []
    for word in overrides:
        key, sign, text = word.partition("=")
        if not key:
            raise ConfigError(word, expected="key=value")
        texts = text.split(",")
        quoted = f"{key}={','.join(map(in_quotes, texts))}" if all(map(PLAIN_TEXT.fullmatch, texts)) else word
        try:
            parsed.append(_first_read(parser, word, quoted))
        except OverrideParseException as error:
            if not sign:
                raise ConfigError(word, expected="key=value") from error
            raise ConfigError(word, reason="cannot be read as key=value", advice=f"as text it is written {typed(key, text)}") from error
    return parsed


def _first_read(parser: Any, *words: str) -> "Override":
    """Hydra's reading of the first word that it can read."""
    from hydra.errors import OverrideParseException

    for word in words[:-1]:
        with suppress(OverrideParseException):
            return _read(parser, word)
    return _read(parser, words[-1])


def _read(parser: Any, word: str) -> "Override":
    override: Override = parser.parse_overrides([word])[0]
    return override


def in_quotes(text: str) -> str:
    """A text in the quotes that Hydra's grammar has for any text."""
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text.strip(), Quote.double).with_quotes()


def typed(key: str, text: str) -> str:
    """The word to type in a shell for a text as the value of a key."""
    return shlex.quote(f"{key}={in_quotes(text)}")


def written(words: list[str]) -> dict[str, str]:
    """The values of words by key, as they are written."""
    return {key: text for key, sign, text in (word.partition("=") for word in words) if sign}


def mount_of(override: "Override") -> str:
    """The key of an override, `optimizer@discriminator_optimizer` for a group that is mounted elsewhere."""
    return override.get_key_element().lstrip("+~")


def value_of(override: "Override") -> Any:
    """The value of an override, a plain one as Python has it, anything else as it is written."""
    from hydra.core.override_parser.types import QuotedString

    value = override.value()
    if override.is_sweep_override() or override.is_delete():
        return (override.input_line or "").partition("=")[2]
    return value.text if isinstance(value, QuotedString) else value


def check_override(override: "Override", word: str, folders: ConfigFolders) -> None:
    """Refuse an override that no composition has a use for: of Hydra, with several values, or a choice that its group does not have.

    Args:
        override: Hydra's reading of it.
        word: the same as it is written.
        folders: files of all groups.
    """
    group, key = override.key_or_group, mount_of(override)
    value = value_of(override)
    if group == "sweep":
        table = value if value and not override.is_sweep_override() else "TABLE"
        reason = "a sweep file holds several runs"
        raise ConfigError("sweep", value, reason=reason, advice=f"python -m experiments.sweep table={table} runs them")
    if group.split("/")[0].split(".")[0] == "hydra":
        reason = "Hydra's own settings have no effect here"
        raise ConfigError(key, value, reason=reason, advice="-m runs jobs one after another, each in its own process")
    if override.is_sweep_override():
        advice = f"add -m to run each of them, or write {key}=[...] for a list, {typed(key, word.partition('=')[2])} for text"
        raise ConfigError(key, value, reason="several values", advice=advice)
    if folders.is_group(group) and not override.is_delete() and not isinstance(value, list):
        check_choice(key, value, folders)


def check_choice(mount: str, value: Any, folders: ConfigFolders, place: str = "") -> None:
    """Refuse a choice that the group of a mount does not have; `place` is the file that makes it, empty for the command line."""
    group = mount.partition("@")[0]
    known = folders.choices(group)
    listed = ", ".join(known[:40]) + (" ..." if len(known) > 40 else "")
    if value is None:
        raise ConfigError(mount, value, expected=f"one of {listed}", place=place, advice=f"leave `{mount}` out")
    if str(value) not in known:
        fields = {"reason": f"{group} has no `{value}`", "nearest": nearest(str(value), known), "place": place}
        raise ConfigError(mount, value, expected=f"one of {listed}", advice="", **fields)


def expand(overrides: list[str], config_dir: Path = CONF) -> list[list[str]]:
    """The overrides of every job of a sweep, the last swept key varying fastest; overrides with one value stay as they are.

    Raises:
        ConfigError: an override cannot be read, is a range without steps, or matches nothing.
    """
    from hydra.core.override_parser.types import Glob

    plain, added, _ = split(overrides)
    folders = ConfigFolders(config_dir, added)
    options = [[text] for text in overrides if text not in plain]
    for override in parse(plain):
        key, text = override.get_key_element(), override.input_line or ""
        if not override.is_sweep_override():
            options.append([text])
        elif isinstance(pattern := override.value(), Glob):
            options.append([f"{key}={name}" for name in pattern.filter(folders.choices(override.key_or_group))])
        elif override.is_discrete_sweep():
            options.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            raise ConfigError(key, value_of(override), expected=f"a list of values, such as {key}=1,2,4", advice="")
        if not options[-1]:
            raise ConfigError(key, value_of(override), reason="nothing matches, no job would run")
    return [list(job) for job in itertools.product(*options)]


def expand_table(overrides: list[str], config_dir: Path = CONF) -> list[list[str]]:
    """The jobs of `--multirun sweep=TABLE ...`: overrides of experiments.sweep for every combination of the other overrides' values.

    The seeds of a table's rows are a setting there: `seed=0,1,2` becomes seeds=3.

    Raises:
        ConfigError: several tables or scales, seeds other than 0, 1, ..., or what `expand` refuses.
    """
    plain, _, _ = split(overrides)
    parsed = parse(plain)
    texts = {key: [word.input_line or "" for word in parsed if word.key_or_group == key] for key in ("sweep", "scale", "seed")}
    for word in parsed:
        key = word.key_or_group
        if key in ("sweep", "scale") and (word.is_sweep_override() or len(texts[key]) > 1):
            raise ConfigError(key, value_of(word), expected="one table at one scale", advice="run --multirun once for each")
    seeds = [job[0].partition("=")[2] for text in texts["seed"] for job in expand([text], config_dir)]
    if seeds != [str(number) for number in range(len(seeds))]:
        expected = "seeds counted from 0, such as seed=0,1,2"
        raise ConfigError("seed", texts["seed"][0].partition("=")[2], expected=expected, advice="a table's rows have no others")
    others = expand([text for text in overrides if text.partition("=")[0] not in texts], config_dir)
    table = "table=" + texts["sweep"][0].partition("=")[2]
    fixed = [table, *texts["scale"], *([f"seeds={len(seeds)}"] if seeds else [])]
    return [[*fixed, *job] for job in others]
