"""YAML and JSON text that may come from anybody: no doubled keys, no bound of size or depth exceeded, errors of one line."""

import json
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from experiments.config.errors import DamagedFile
from tokenizer.files import SEAL, content_sha256, other_kind, sealed, unsealed, write_text

MOST_BYTES = 64 * 2**20
MOST_YAML_BYTES = 2**20  # about ten seconds of the parser
SEAL_COMMENT = re.compile(rf"# {SEAL}: ([0-9a-f]{{64}})\n")
MOST_VALUES = 2_000_000  # with the repetitions that YAML's aliases stand for
DEEPEST = 60  # levels of nesting


class _Loader(yaml.SafeLoader):
    # A date is text, as Hydra reads it.
    yaml_implicit_resolvers = {
        character: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for character, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        _require_different([self.construct_object(key, deep=True) for key in keys], [key.start_mark.line + 1 for key in keys])
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """The content of YAML text.

    Raises:
        ValueError: it is no YAML of plain containers, or has a key twice; one line.
    """
    try:
        return _bounded(yaml.load(text, _Loader))
    except (yaml.YAMLError, RecursionError, TypeError, AttributeError, ArithmeticError, ValueError) as error:
        raise ValueError(_one_line(error)) from error


def parse_json(text: str) -> Any:
    """The content of JSON text.

    Raises:
        ValueError: it is no JSON, or has a key twice; one line.
    """
    try:
        return _bounded(json.loads(text, object_pairs_hook=_different_pairs))
    except RecursionError as error:
        raise ValueError(_one_line(error)) from error


def read_file(path: Path) -> Any:
    """The content of a YAML or JSON file, by its ending; if it has a checksum, see `write_mapping`, without that.

    Raises:
        DamagedFile: it is none, no regular file, not UTF-8 text, or has another checksum.
        OSError: the system does not let it be read.
    """
    try:
        if kind := other_kind(path):
            raise ValueError(f"it is {kind}, expected a regular file")
        most = MOST_BYTES if path.suffix == ".json" else MOST_YAML_BYTES
        if path.stat().st_size > most:
            raise ValueError(f"{path.stat().st_size:,} bytes, expected at most {most:,}")
        text = path.read_text(encoding="utf-8")
        content = parse_json(text) if path.suffix == ".json" else parse_yaml(text)
        return unsealed(_with_seal(content, text), text) if isinstance(content, dict) else content
    except ValueError as error:
        raise DamagedFile(path, f"cannot be read ({_one_line(error)})") from error


def read_mapping(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML or JSON file, see `read_file`.

    Raises:
        DamagedFile: it holds something else.
    """
    content = read_file(path)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise DamagedFile(path, f"expected keys and values, it holds {type(content).__name__ if content is not None else 'nothing'}")
    return content


def write_mapping(path: Path, content: Mapping[str, Any]) -> None:
    """Write keys and values as YAML or JSON, by the file's ending, atomically and with a checksum: a first key or a first comment."""
    if path.suffix == ".json":
        write_text(path, json.dumps(sealed(content), indent=2, allow_nan=False) + "\n")
    else:
        text = yaml.safe_dump(dict(content), sort_keys=False)
        write_text(path, f"# {SEAL}: {content_sha256(content)}\n{text}")


def _with_seal(content: dict[str, Any], text: str) -> dict[str, Any]:
    """The content with the checksum in the first comment of a YAML file, if there is one."""
    comment = SEAL_COMMENT.match(text)
    return {**content, SEAL: comment[1]} if comment else content


def _different_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _require_different([key for key, _ in pairs])
    return dict(pairs)


def _require_different(keys: list[Any], lines: list[int] | None = None) -> None:
    seen: set[Any] = set()
    for number, key in enumerate(keys):
        if key in seen:
            raise ValueError(f"the key {key} is there twice{f', again in line {lines[number]}' if lines else ''}")
        seen.add(key)


def _bounded(content: Any) -> Any:
    """The content, if its values can be walked through in bounded time and depth."""
    values, waiting = 0, [(content, 1)]
    while waiting:
        value, depth = waiting.pop()
        values += 1
        if values > MOST_VALUES or depth > DEEPEST:
            raise ValueError(f"more than {MOST_VALUES:,} values" if values > MOST_VALUES else f"nested deeper than {DEEPEST} levels")
        if value is not None and not isinstance(value, dict | list | str | int | float):
            raise ValueError(f"a {type(value).__name__} {value}, expected text, a number, true, false, null, a list or keys and values")
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        waiting += [(each, depth + 1) for each in inner]
    return content


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
