"""Reads sweep files. Imports neither torch nor Hydra."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from experiments.config.errors import ConfigError, DamagedFile, nearest
from experiments.config.files import ConfigFolders
from experiments.config.parsing import read_file
from experiments.config.validation import Location, config_error
from experiments.tables.sweep_file import SweepFile

ENTRIES = {"rows": "row", "columns": "column", "claims": "claim"}


def read_sweep(name: str, config_dir: Path, added: tuple[Path, ...] = ()) -> SweepFile:
    """Read and check the sweep file of a name such as gsq/table01_codebook, or of its beginning; `added` are folders of `--config-dir`.

    Raises:
        ConfigError: there is no such file, or something in it is wrong; names file, row and the nearest valid word.
    """
    folders = ConfigFolders(config_dir, added)
    known = folders.choices("sweep")
    name = name.removesuffix(".yaml")
    if name not in known:
        short = [other for other in known if other.startswith(f"{name}_")]
        if len(short) != 1:
            raise ConfigError("table", name, expected=f"one of {', '.join(known)}", nearest=nearest(name, known))
        name = short[0]
    path = folders.find(f"sweep/{name}")
    assert path is not None
    place = f"conf/sweep/{name}.yaml" if path.is_relative_to(config_dir) else folders.label(path)
    try:
        content = read_file(path)
    except DamagedFile as error:
        raise ConfigError(place, reason=error.reason) from error
    try:
        context = {"name": name, "experiments": folders.choices("experiment"), "protocols": folders.choices("protocol")}
        return SweepFile.model_validate(content, context=context)
    except ValidationError as error:
        raise config_error(error, SweepFile, place, lambda location: _locate(location, content)) from error


def _locate(location: Location, content: Any) -> tuple[str, Location]:
    """`row 3 (sphere)` and the key in there."""
    place = ""
    if len(location) > 1 and location[0] in ENTRIES:
        entry, number = content[location[0]][location[1]], int(location[1]) + 1
        name = f" ({entry['name']})" if location[0] == "rows" and isinstance(entry, dict) and "name" in entry else ""
        place, location = f"{ENTRIES[str(location[0])]} {number}{name}", location[2:]
    return place, location
