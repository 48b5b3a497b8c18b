"""Constructor signatures are read from source, also through bases, dataclasses, imports and aliases."""

import textwrap

import pytest

from experiments.config import packages
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

try:
    import absent
except ImportError:
    absent = None
else:
    class WithAbsent:
        def __init__(self, size: int): ...
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
    monkeypatch.setattr(packages, "ROOT", tmp_path)


def required(target: str) -> dict[str, bool]:
    return signature(target)


def test_a_class_without_constructor_has_that_of_its_base():
    assert required("tokenizer.sample.Inherits") == {"width": True, "depth": False}


def test_a_base_from_another_project_counts_as_taking_nothing():
    assert required("tokenizer.sample.FromElsewhere") == {}


def test_a_name_that_a_module_imports_is_followed():
    assert required("tokenizer.Base") == {"width": True, "depth": False}


def test_fields_of_a_dataclass_come_after_those_of_its_base():
    assert required("tokenizer.sample.MoreSettings") == {"size": True, "weights": False, "name": False}


def test_a_class_under_a_try_is_found():
    assert required("tokenizer.sample.WithAbsent") == {"size": True}


def test_a_function_has_its_keyword_only_arguments_too():
    assert required("tokenizer.sample.build") == {"rows": True, "scale": False}


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        ("torch.nn.Linear", {"expected": "a class or function in tokenizer or experiments"}),
        ("tokenizer.smaple.Base", {"reason": "there is no module tokenizer.smaple"}),
        ("tokenizer.base.Bsae", {"reason": "tokenizer.base defines no class or function Bsae", "expected": "one of Base"}),
        ("tokenizer.base.Norm", {"reason": "tokenizer.base defines no class or function Norm"}),
    ],
)
def test_a_target_that_leads_nowhere_is_refused(target, fields):
    with pytest.raises(ConfigError) as caught:
        signature(target)
    assert (caught.value.key, caught.value.value) == ("_target_", target)
    assert {name: getattr(caught.value, name) for name in fields} == fields


def test_a_class_of_a_plugin_is_found_without_importing_it(tmp_path, monkeypatch):
    (tmp_path / "somewhere" / "a_lab").mkdir(parents=True)
    (tmp_path / "somewhere" / "a_lab" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "somewhere" / "a_lab" / "parts.py").write_text("class Part:\n    def __init__(self, width: int): ...\n")
    monkeypatch.syspath_prepend(tmp_path / "somewhere")
    monkeypatch.setattr(packages, "_plugins", {})
    with pytest.raises(ConfigError):
        signature("a_lab.parts.Part")
    packages.allow_plugins(["a_lab"])
    assert signature("a_lab.parts.Part") == {"width": True}
