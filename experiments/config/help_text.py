"""The text of --help, made from the configuration files and their comments. Imports neither Hydra nor pydantic."""

import re
import textwrap

from experiments.config.draft import MAIN_GROUPS
from experiments.config.files import ConfigFolders, choices_in, read_defaults
from experiments.config.parsing import read_file

COLUMNS, WIDEST = 110, 40
SETTING = re.compile(r"^( *)(\w+):[ ]*([^#\n]*?)[ ]*(?:#[ ]*(.*))?$", re.MULTILINE)
FILE_SETTINGS = {"table": "sweep", "scale": "scale"}  # settings of verbs over tables that name a file of a group, without loading it
POSITIONAL = {"sweep": ("table",), "report": ("table",), "weights": ("action", "name")}  # settings that may be written without `key=`
OPTIONS = """\
  -h, --help               this text
  -c, --cfg job            print the configuration instead of using it, with --resolve its interpolations resolved
  -m, --multirun           run every combination of several values, each in its own process
  --config-dir FOLDER      add configuration files: groups, experiments, scales
  -cn, --config-name NAME  another main file"""
STATUS = """\
  0 done, or done earlier    1 an error, in one line
  130, 138, 143 stopped by SIGINT, SIGUSR1 or SIGTERM: a training has saved, and the same command resumes it"""

Setting = tuple[str, str, str]  # key, default, comment


def help_text(verb: str, description: str, folders: ConfigFolders, overrides: tuple[str, ...] = ()) -> str:
    """Usage, groups with their choices, settings with their defaults and comments, and examples of the main file `verb`.

    An override that chooses a task shows that task's groups and settings.
    """
    groups, settings = _contents(verb, folders)
    for group in [group for group in groups if group in MAIN_GROUPS]:
        chosen = next((word.partition("=")[2] for word in overrides if word.startswith(f"{group}=")), str(groups[group]))
        if folders.find(f"{group}/{chosen}"):
            more_groups, more_settings = _contents(f"{group}/{chosen}", folders)
            ours = {group: chosen, **more_groups}
            groups = {**ours, **groups, **ours}  # first in order, and with their own choices
            settings = {**settings, **more_settings}
    positional = "".join(f" {name.upper()}" for name in POSITIONAL.get(verb, ()))
    lines = [f"usage: python -m experiments.{verb}{positional} [group=choice] [key=value] [options]", "", description, ""]
    files = {key: group for key, group in FILE_SETTINGS.items() if verb in POSITIONAL and key in settings}
    if groups or files:
        lines += ["Groups (a star marks the default):"]
    for mount, default in [*groups.items(), *((key, settings.pop(key)[1]) for key in files)]:
        known = [f"{name}*" if name == default else name for name in folders.choices(files.get(mount, mount.partition("@")[0]))]
        lines += textwrap.wrap(f"{mount}={' | '.join(known)}", COLUMNS, initial_indent="  ", subsequent_indent="      ")
    if settings:
        lines += ["", "Settings:", *_setting_lines(list(settings.values()))]
    if files:
        lines += ["", "All other overrides are for the training of every row, see python -m experiments.train --help"]
    examples = _examples(verb, groups, list(settings.values()), folders)
    return "\n".join([*lines, "", "Options:", OPTIONS, "", "Exit status:", STATUS, "", "Examples:", *examples, ""])


def _contents(name: str, folders: ConfigFolders) -> tuple[dict[str, str | None], dict[str, Setting]]:
    """The groups of a main file with their choices, and its settings by dotted key, with those of the files that it starts from.

    Blocks are listed only for verbs without groups.
    """
    path = folders.find(name)
    if path is None:
        return {}, {}
    text = path.read_text()
    content = read_file(path) or {}
    settings: dict[str, Setting] = {}
    for base in read_defaults(path):
        if isinstance(base, str) and base != "_self_":
            settings |= _contents(f"{name.rpartition('/')[0]}/{base}".lstrip("/"), folders)[1]
    parents: list[str] = []
    for indent, part, default, comment in SETTING.findall(text):
        parents[len(indent) // 2 :] = [part]
        block = content.get(parents[0])
        key = ".".join(parents)
        if default and (len(parents) == 1 or (name in POSITIONAL and isinstance(block, dict))):
            settings[key] = (key, default, comment or settings.get(key, ("", "", ""))[2])
    plain = {key: setting for key, setting in settings.items() if not isinstance(content.get(key), dict) and key != "defaults"}
    return choices_in(path) | choices_in(path, overriding=True), plain


def _setting_lines(settings: list[Setting]) -> list[str]:
    width = min(max(len(f"{key}={value}") for key, value, _ in settings), WIDEST) + 2
    return [f"  {f'{key}={value}  ':<{width}}{comment}".rstrip() for key, value, comment in settings]


def _examples(verb: str, groups: dict[str, str | None], settings: list[Setting], folders: ConfigFolders) -> list[str]:
    command = f"  python -m experiments.{verb}"
    if verb in POSITIONAL:
        tables = folders.choices("sweep") if "table" in POSITIONAL[verb] else ["fetch all"]
        return [f"{command} {table}" for table in tables[:1]] + [f"{command} --cfg job"]
    known = {group: folders.choices(group) for group in groups if "@" not in group}
    group, names = next(((group, names) for group, names in known.items() if len(names) > 1), ("", []))
    numbers = [f"{key}={value}" for key, value, _ in settings if value.isdigit()]
    one = [f"{group}={name}" for name in names if name != groups[group]][:1]
    several = [f"{group}={','.join(names[:3])}"] if names else []
    return [" ".join([command, *one, *numbers[:1]]), f"{command} --cfg job --resolve", " ".join([command, "-m", *several])]
