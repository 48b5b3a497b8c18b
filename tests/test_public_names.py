"""What `from tokenizer import ...` offers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tokenizer


@pytest.mark.parametrize("name", tokenizer.__all__)
def test_a_public_name_is_the_class_or_function_of_that_name(name):
    item = getattr(tokenizer, name)
    assert item.__name__ == name
    assert item.__module__.startswith("tokenizer.")


def test_users_can_import_the_main_names_in_one_line():
    from tokenizer import GroupedSphericalQuantizer, ImageTokenizer, TokenSpec

    assert all(isinstance(item, type) for item in (GroupedSphericalQuantizer, ImageTokenizer, TokenSpec))


def test_type_checkers_see_the_same_names_from_the_same_modules():
    tree = ast.parse(Path(tokenizer.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tokenizer.")]
    imported = {alias.asname: str(node.module) for node in imports for alias in node.names}
    assert imported == {name: f"tokenizer.{module}" for name, module in tokenizer._EXPORTS.items()}


def test_the_listing_of_the_package_has_the_public_names_alone():
    assert dir(tokenizer) == sorted(tokenizer.__all__)


def test_an_unknown_name_is_an_error():
    with pytest.raises(AttributeError, match="module 'tokenizer' has no attribute 'Quantiser'"):
        tokenizer.Quantiser  # noqa: B018
    with pytest.raises(ImportError):
        from tokenizer import Quantiser  # noqa: F401


def test_importing_the_package_does_not_load_torch():
    code = "import sys, tokenizer; print({'torch', 'timm', 'lpips'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_the_package_is_marked_as_typed():
    assert Path(tokenizer.__file__).with_name("py.typed").is_file()
