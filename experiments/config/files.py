"""The folders of configuration files and what is in them. Imports neither Hydra nor torch."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from experiments.config.parsing import read_file

PREFIX = re.compile(r"^(override |optional )*/?")


@dataclass(frozen=True)
class ConfigFolders:
    """Our folder of configuration files, and those that the command line adds. Of two files with one name the first counts."""

    main: Path
    added: tuple[Path, ...] = ()  # by `--config-dir`

    @property
    def all(self) -> tuple[Path, ...]:
        """The folders in the order in which a file is looked for."""
        return self.main, *self.added

    def find(self, name: str) -> Path | None:
        """The file of a verb or of a choice, such as `quantizer/gsq`."""
        return next((path for folder in self.all if (path := folder / f"{name}.yaml").is_file()), None)

    def verbs(self) -> list[str]:
        """Names of all main files."""
        return sorted({path.stem for folder in self.all for path in folder.glob("*.yaml")})

    def is_group(self, name: str) -> bool:
        """Whether a group of this name exists."""
        return bool(name) and any((folder / name).is_dir() for folder in self.all)

    def choices(self, group: str) -> list[str]:
        """Names that may be written after `group=`."""
        found = {path.relative_to(folder / group) for folder in self.all for path in (folder / group).rglob("*.yaml") if path.is_file()}
        return sorted(path.with_suffix("").as_posix() for path in found)

    def files(self, group: str) -> list[Path]:
        """Files of a group, without those in subfolders."""
        return [path for name in self.choices(group) if "/" not in name and (path := self.find(f"{group}/{name}"))]

    def name(self, path: Path) -> str:
        """The group and choice of a file, such as `quantizer/gsq`."""
        folder = next(folder for folder in self.all if path.is_relative_to(folder))
        return path.relative_to(folder).with_suffix("").as_posix()

    def label(self, path: Path) -> str:
        """A file as messages name it, such as `conf/quantizer/gsq.yaml`."""
        folder = next(folder for folder in self.all if path.is_relative_to(folder))
        return f"{folder.name}/{path.relative_to(folder)}"


@cache
def read_yaml(path: Path) -> dict[str, Any]:
    """The keys of a configuration file, interpolations as strings, without its defaults list. Numbers are read as Hydra reads them.

    Raises:
        DamagedFile: see `experiments.config.parsing`.
    """
    from omegaconf import OmegaConf

    read_file(path)  # OmegaConf has no bounds
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    return {str(key): value for key, value in content.items() if key != "defaults"} if isinstance(content, dict) else {}


def read_defaults(path: Path) -> list[Any]:
    """The defaults list of a configuration file."""
    content = read_file(path)
    return list(content.get("defaults") or []) if isinstance(content, dict) else []


def choices_in(path: Path, overriding: bool = False) -> dict[str, Any]:
    """The groups that the defaults list of a file brings, or those that it overrides, with their choices."""
    entries = [(str(name), choice) for entry in read_defaults(path) if isinstance(entry, dict) for name, choice in entry.items()]
    return {PREFIX.sub("", name): choice for name, choice in entries if name.startswith("override ") == overriding}
