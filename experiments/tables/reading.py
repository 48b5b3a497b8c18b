"""Reads sweep files and judges each as a whole before any of it is used. Imports neither torch nor Hydra."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from experiments.config.checks import nearest
from experiments.config.errors import ConfigError
from experiments.tables.claims import parse
from experiments.tables.kinds import CLAIM, COLUMN, CORRECTION, FILE, ROW, check
from experiments.tables.plot_settings import check_plot
from experiments.tables.sweep_file import (
    BITS_PER_TOKEN,
    COMPLETED,
    DECIDING,
    KNOWN_COLUMNS,
    SCALES,
    Claim,
    Column,
    Correction,
    Row,
    SweepFile,
)

BETTER = ("lower", "higher", "none")
RESERVED = ("raw", COMPLETED)
"""Names that no extra evaluation may have; `val_raw` is of the weights that are not averaged."""


def sweep_names(config_dir: Path) -> list[str]:
    """All sweep files, such as gsq/table01_codebook."""
    folder = config_dir / "sweep"
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def read_sweep(name: str, config_dir: Path) -> SweepFile:
    """Read and judge a sweep file.

    Raises:
        ConfigError: there is no such file, or something in it is wrong; names file, row and the nearest right word.
    """
    known = sweep_names(config_dir)
    name = name.removesuffix(".yaml")
    if name not in known:
        short = [other for other in known if other.startswith(f"{name}_")]
        if len(short) != 1:
            raise ConfigError(f"{name}: there is no such sweep file{nearest(name, known)}; known: {', '.join(known)}")
        name = short[0]
    path = config_dir / "sweep" / f"{name}.yaml"
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"conf/sweep/{name}.yaml cannot be read: {' '.join(str(error).split())}") from error
    return _Reader(name, config_dir).read(content)


class _Reader:
    """Turns the content of one file into a `SweepFile`, naming the place of whatever is wrong."""

    def __init__(self, name: str, config_dir: Path) -> None:
        self.name = name
        self.config_dir = config_dir

    def read(self, content: Any) -> SweepFile:
        self._placed("", check, content, FILE, ("title", "source", "base", "columns", "rows"))
        reserved = [name for name in content.get("evaluate", {}) if name in RESERVED]
        if reserved:
            raise self._wrong("", f"evaluate names {reserved[0]}, which means something else; choose another name")
        columns = [self._column(entry, number, content.get("evaluate", {})) for number, entry in enumerate(content["columns"], 1)]
        self._check_once([column.key for column in columns], "two columns hold {}")
        labels = content.get("labels", [])
        rows = [self._row(entry, number, labels, columns) for number, entry in enumerate(content["rows"], 1)]
        names = [row.name for row in rows]
        self._check_once(names, "two rows are called {}; give each its own name")
        self._check_base(content["base"], "")
        plot = content.get("plot", {})
        self._placed("plot", check_plot, plot, labels, columns, rows)
        return SweepFile(
            name=self.name,
            title=content["title"],
            source=content["source"],
            base=content["base"],
            labels=labels,
            columns=columns,
            rows=rows,
            claims=[self._claim(entry, number, names, columns) for number, entry in enumerate(content.get("claims", []), 1)],
            notes=content.get("notes", []),
            evaluate=content.get("evaluate", {}),
            plot=plot,
            budgets={scale: content[scale] for scale in SCALES if scale in content},
        )

    def _column(self, entry: Any, number: int, evaluate: Mapping[str, int]) -> Column:
        place = f"column {number}"
        known = [*KNOWN_COLUMNS, BITS_PER_TOKEN]
        known += [f"val_{name}/{key.removeprefix('val/')}" for name in evaluate for key in known if key.startswith("val/")]
        key = entry.get("key", "") if isinstance(entry, dict) else entry
        if isinstance(key, str) and key and key not in known:
            raise self._wrong(place, f"{key} is no metric{nearest(key, known)}; known: {', '.join(known)}")
        if isinstance(entry, str):
            if entry not in KNOWN_COLUMNS:
                raise self._wrong(place, f"{entry} has no label of its own; write {{key: {entry}, label: ...}}")
            return KNOWN_COLUMNS[entry]
        self._placed(place, check, entry, COLUMN, ("key", "label"))
        column = Column(**entry)
        if column.better not in BETTER:
            raise self._wrong(place, f"better is {column.better}{nearest(column.better, BETTER)}; expected one of {', '.join(BETTER)}")
        return column

    def _row(self, entry: Any, number: int, labels: list[str], columns: list[Column]) -> Row:
        place = f"row {number}" + (f" ({entry['name']})" if isinstance(entry, dict) and "name" in entry else "")
        self._placed(place, check, entry, ROW, ("name",))
        row = Row(
            name=entry["name"],
            label=[str(cell) for cell in entry.get("label", [])],
            base=entry.get("base"),
            overrides=entry.get("overrides", {}),
            budgets={scale: entry[scale] for scale in SCALES if scale in entry},
            published=entry.get("published", []) or [None] * len(columns),
            corrections={
                key: self._correction(value, f"{place}, correction of {key}") for key, value in entry.get("corrections", {}).items()
            },
            quoted=entry.get("quoted", False),
            note=entry.get("note", ""),
        )
        if len(row.label) != len(labels):
            raise self._wrong(place, f"label has {len(row.label)} cells, labels names {len(labels)}: {', '.join(labels)}")
        if len(row.published) != len(columns):
            raise self._wrong(place, f"published has {len(row.published)} cells, columns has {len(columns)}")
        unquoted = [cell for cell in row.published if not isinstance(cell, str | None)]
        if unquoted:
            raise self._wrong(place, f'published cell {unquoted[0]} must be quoted as "{unquoted[0]}", so that it prints as it is printed')
        astray = [key for key in row.corrections if key not in [column.key for column in columns]]
        if astray:
            raise self._wrong(
                place, f"corrections names {astray[0]}, which is no column{nearest(str(astray[0]), [c.key for c in columns])}"
            )
        if row.quoted and (row.overrides or row.budgets or row.base):
            raise self._wrong(place, "a quoted row is never run: it has no base and no overrides")
        self._check_base(row.base, place)
        return row

    def _correction(self, entry: Any, place: str) -> Correction:
        self._placed(place, check, entry, CORRECTION, ("cell", "why"))
        return Correction(**entry)

    def _claim(self, entry: Any, number: int, names: list[str], columns: list[Column]) -> Claim:
        place = f"claim {number}"
        self._placed(place, check, entry, CLAIM, ("text", "when"))
        claim = Claim(**{**entry, "scales": tuple(entry.get("scales", DECIDING))})
        unknown = [scale for scale in claim.scales if scale not in SCALES]
        if unknown:
            raise self._wrong(place, f"scales names {unknown[0]}{nearest(unknown[0], SCALES)}; known: {', '.join(SCALES)}")
        keys = dict.fromkeys([*(column.key for column in columns), *KNOWN_COLUMNS, BITS_PER_TOKEN])
        self._placed(place, parse, claim.when, names, keys)
        return claim

    def _check_once(self, names: list[str], message: str) -> None:
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise self._wrong("", message.format(twice[0]))

    def _placed(self, place: str, check: Callable[..., Any], *arguments: Any) -> None:
        """Call a check that knows nothing of files, and name file and place if it fails."""
        try:
            check(*arguments)
        except ConfigError as error:
            raise self._wrong(place, str(error)) from error

    def _check_base(self, base: str | None, place: str) -> None:
        folder = self.config_dir / "experiment"
        if base is not None and not (folder / f"{base}.yaml").is_file():
            known = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
            raise self._wrong(place, f"base {base} is no experiment{nearest(base, known)}")

    def _wrong(self, place: str, text: str) -> ConfigError:
        return ConfigError(f"conf/sweep/{self.name}.yaml{f', {place}' if place else ''}: {text}")
