"""Constructor signatures are read from source, also through bases, dataclasses, imports and aliases."""

import textwrap

import pytest

from experiments.config import signatures
from experiments.config.errors import ConfigError
from experiments.config.signatures import signature

SOURCE = """
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Optional
from collections.abc import Sequence
from torch import nn
from tokenizer.base import Base, Norm

class Inherits(Base):
    pass

class FromElsewhere(nn.Linear):
    pass

@dataclass
class Settings:
    size: int
    weights: dict[str, float] = field(default_factory=dict)

@dataclass(frozen=True)
class MoreSettings(Settings):
    name: str = "x"

def build(rows: list[int], *, scale: float = 1.0): ...

class Many:
    def __init__(
        self, i: int, f: float, b: bool, s: str, o: int | None, p: Optional[str], norm: Norm, quoted: "int | float",
        pair: tuple[int, int], any_length: tuple[float, ...], names: Sequence[str], weights: dict[str, float],
        path: Path, free, part: Base, devices: int | Literal["auto"], lists: list[list[int]],
    ): ...
"""


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "sample.py").write_text(SOURCE)
    base = """
        from typing import Literal
        Norm = Literal["none", "l2"]
        class Base:
            def __init__(self, width: int, depth: int = 2): ...
        """
    (folder / "base.py").write_text(textwrap.dedent(base))
    (folder / "__init__.py").write_text("from tokenizer.base import Base\n")
    monkeypatch.setattr(signatures, "ROOT", tmp_path)


def required(target: str) -> dict[str, bool]:
    return {name: argument.required for name, argument in signature(target).items()}


def test_a_class_without_constructor_has_that_of_its_base():
    assert required("tokenizer.sample.Inherits") == {"width": True, "depth": False}


def test_a_base_from_another_project_counts_as_taking_nothing():
    assert required("tokenizer.sample.FromElsewhere") == {}


def test_a_name_that_a_module_imports_is_followed():
    assert required("tokenizer.Base") == {"width": True, "depth": False}


def test_fields_of_a_dataclass_come_after_those_of_its_base():
    assert required("tokenizer.sample.MoreSettings") == {"size": True, "weights": False, "name": False}


def test_a_function_has_its_keyword_only_arguments_too():
    assert required("tokenizer.sample.build") == {"rows": True, "scale": False}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("i", [0, -3], [1.0, True, "1", None]),
        ("f", [0.5, 2], [True, "0.5", None]),
        ("b", [True], [1, "true"]),
        ("s", ["a", ""], [1, None, ["a"]]),
        ("o", [1, None], ["1"]),
        ("p", ["a", None], [1]),
        ("norm", ["none", "l2"], ["l3", None]),
        ("quoted", [1, 1.5], ["1"]),
        ("pair", [[1, 2]], [[1], [1, 2, 3], [1, "2"], 1]),
        ("any_length", [[], [1, 0.5]], [["a"], 1.0]),
        ("names", [["a"], []], ["a", [1]]),
        ("weights", [{"a": 1, "b": 0.5}, {}], [{"a": "1"}, [1]]),
        ("path", ["runs", 3], []),
        ("free", [1, "a", None], []),
        ("part", [{"_target_": "tokenizer.base.Base"}], []),
        ("devices", [2, "auto"], ["all", 1.5]),
        ("lists", [[[1], [2, 3]]], [[1], [["a"]]]),
    ],
)
def test_values_are_accepted_as_the_annotation_says(name, good, bad):
    argument = signature("tokenizer.sample.Many")[name]
    assert [value for value in good if not argument.accepts(value)] == []
    assert [value for value in bad if argument.accepts(value)] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("i", "a whole number (int)"),
        ("o", "a whole number (int) or null"),
        ("norm", "one of none, l2"),
        ("pair", "a list of 2, each a whole number (int)"),
        ("weights", "a mapping to a number (float)"),
        ("devices", "a whole number (int) or one of auto"),
    ],
)
def test_an_expectation_is_said_in_words(name, text):
    assert signature("tokenizer.sample.Many")[name].expectation == text


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("torch.nn.Linear", "expected something in tokenizer or experiments"),
        ("tokenizer.smaple.Base", "there is no module tokenizer.smaple"),
        ("tokenizer.base.Bsae", "defines no class or function Bsae; it has Base"),
        ("tokenizer.base.Norm", "defines no class or function Norm"),
    ],
)
def test_a_target_that_leads_nowhere_is_refused(target, text):
    with pytest.raises(ConfigError, match=text):
        signature(target)
