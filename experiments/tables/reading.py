"""Reads sweep files and judges each as a whole before any of it is used. Imports neither torch nor Hydra."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from experiments.config_checks import nearest
from experiments.signatures import ConfigError
from experiments.tables.claims import parse
from experiments.tables.plot_settings import check_plot
from experiments.tables.sweep_file import BITS_PER_TOKEN, KNOWN_COLUMNS, SCALES, Claim, Column, Correction, Row, SweepFile


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
    except yaml.YAMLError as error:
        raise ConfigError(f"conf/sweep/{name}.yaml cannot be read: {' '.join(str(error).split())}") from error
    return _Reader(name, config_dir).read(content)


class _Reader:
    """Turns the content of one file into a `SweepFile`, naming the place of whatever is wrong."""

    def __init__(self, name: str, config_dir: Path) -> None:
        self.name = name
        self.config_dir = config_dir

    def read(self, content: Any) -> SweepFile:
        if not isinstance(content, dict):
            raise self._wrong("", "expected the keys of a sweep file: title, source, base, columns, rows")
        needed = ("title", "source", "base", "columns", "rows")
        self._check_keys(content, "", (*needed, "labels", "claims", "notes", "evaluate", "plot", *SCALES), needed)
        columns = [self._column(entry) for entry in content["columns"]]
        labels = [str(label) for label in content.get("labels", [])]
        rows = [self._row(entry, number, labels, columns) for number, entry in enumerate(content["rows"], 1)]
        names = [row.name for row in rows]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise self._wrong("", f"two rows are called {twice[0]}; give each its own name")
        self._check_base(content["base"], "")
        plot = dict(content.get("plot", {}))
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
            notes=list(content.get("notes", [])),
            evaluate=dict(content.get("evaluate", {})),
            plot=plot,
            budgets={scale: dict(content[scale]) for scale in SCALES if scale in content},
        )

    def _column(self, entry: Any) -> Column:
        if isinstance(entry, str):
            if entry not in KNOWN_COLUMNS:
                raise self._wrong("columns", f"{entry} is not known{nearest(entry, KNOWN_COLUMNS)}; write {{key: {entry}, label: ...}}")
            return KNOWN_COLUMNS[entry]
        self._check_keys(entry, "columns", ("key", "label", "unit", "better"), ("key", "label"))
        return Column(**entry)

    def _row(self, entry: Any, number: int, labels: list[str], columns: list[Column]) -> Row:
        place = f"row {number}" + (f" ({entry['name']})" if isinstance(entry, dict) and "name" in entry else "")
        allowed = ("name", "label", "base", "overrides", "published", "corrections", "quoted", "note", *SCALES)
        self._check_keys(entry, place, allowed, ("name",))
        row = Row(
            name=str(entry["name"]),
            label=[str(cell) for cell in entry.get("label", [])],
            base=entry.get("base"),
            overrides=dict(entry.get("overrides", {})),
            budgets={scale: dict(entry[scale]) for scale in SCALES if scale in entry},
            published=list(entry.get("published", [])) or [None] * len(columns),
            corrections={key: Correction(**value) for key, value in entry.get("corrections", {}).items()},
            quoted=bool(entry.get("quoted", False)),
            note=str(entry.get("note", "")),
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
            raise self._wrong(place, f"corrections names {astray[0]}, which is no column{nearest(astray[0], [c.key for c in columns])}")
        if row.quoted and (row.overrides or row.budgets or row.base):
            raise self._wrong(place, "a quoted row is never run: it has no base and no overrides")
        self._check_base(row.base, place)
        return row

    def _claim(self, entry: Any, number: int, names: list[str], columns: list[Column]) -> Claim:
        place = f"claim {number}"
        self._check_keys(entry, place, ("text", "when", "scales"), ("text", "when"))
        claim = Claim(str(entry["text"]), str(entry["when"]), tuple(entry.get("scales", SCALES)))
        unknown = [scale for scale in claim.scales if scale not in SCALES]
        if unknown:
            raise self._wrong(place, f"scales names {unknown[0]}{nearest(str(unknown[0]), SCALES)}; known: {', '.join(SCALES)}")
        keys = dict.fromkeys([*(column.key for column in columns), *KNOWN_COLUMNS, BITS_PER_TOKEN])
        self._placed(place, parse, claim.when, names, keys)
        return claim

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

    def _check_keys(self, entry: Any, place: str, allowed: Iterable[str], needed: Iterable[str]) -> None:
        if not isinstance(entry, Mapping):
            raise self._wrong(place, f"expected keys and values, found {entry!r}")
        allowed = list(allowed)
        for key in entry:
            if key not in allowed:
                raise self._wrong(place, f"unknown key `{key}`{nearest(str(key), allowed)}; known: {', '.join(allowed)}")
        for key in needed:
            if key not in entry:
                raise self._wrong(place, f"`{key}` is missing")

    def _wrong(self, place: str, text: str) -> ConfigError:
        return ConfigError(f"conf/sweep/{self.name}.yaml{f', {place}' if place else ''}: {text}")
