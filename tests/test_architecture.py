"""Architectural rules as tests: import order, sizes, names and targets of configuration files."""

import ast
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.config.files import read_yaml
from experiments.config.signatures import signature

ROOT = Path(__file__).resolve().parent.parent
CODE = sorted([*ROOT.glob("tokenizer/**/*.py"), *ROOT.glob("experiments/**/*.py")])
LIBRARY = [path for path in CODE if path.is_relative_to(ROOT / "tokenizer")]
CONF = sorted(ROOT.glob("conf/**/*.yaml"))
LOWEST_LAYER = {"files", "fitting", "interfaces", "layers", "merging", "pretrained", "weights"}
PARTS_LAYER = {"image_tokenizer", "quantizers", "backbones", "discriminators", "losses", "generators"}
MIRRORED = {"quantizer": "quantizers", "backbone": "backbones", "discriminator": "discriminators", "generator": "generators"}
TOP_LEVEL = {
    ".ci", ".github", ".gitignore", ".pre-commit-config.yaml", "LICENSE", "Makefile", "README.md", "conf", "experiments", "pyproject.toml",
    "tests", "tokenizer",
}  # fmt: skip
ORDER = ("config", "runs", "data", "evaluation", "tokens", "training", "tables", "reports", "probing", "sweeps")  # lowest first
FILE_LINES, VERB_LINES, FUNCTION_LINES, CONSTRUCTOR_ARGUMENTS = 300, 80, 50, 12


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def location(path: Path, node: Any = None) -> str:
    return f"{path.relative_to(ROOT)}{f':{node.lineno}' if node is not None else ''}"


def imports(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """Every module that a file imports, anywhere in it; `from tokenizer import weights` counts as tokenizer.weights."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{location(path, node)} imports relatively"
            module = node.module or ""
            yield from ((f"{module}.{alias.name}" if "." not in module else module, node) for alias in node.names)


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)]


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "tokenizer").parts[0].removesuffix(".py")


def import_is_allowed(part: str, other: str) -> bool:
    return part == other or other in LOWEST_LAYER or part == "__init__"


def loaded_after(statement: str) -> set[str]:
    """Top-level modules in a fresh process after a statement."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def test_every_part_of_the_library_has_a_layer():
    parts = {part_of(path) for path in LIBRARY} - {"__init__"}
    assert parts - LOWEST_LAYER - PARTS_LAYER == set()


def test_an_import_between_siblings_or_upwards_is_not_allowed():
    assert not import_is_allowed("quantizers", "backbones")
    assert not import_is_allowed("layers", "quantizers")
    assert import_is_allowed("quantizers", "layers")


def test_parts_of_the_library_import_only_their_own_or_the_lowest_layer():
    wrong = [
        f"{location(path, node)} imports {module}"
        for path in LIBRARY
        for module, node in imports(path)
        if module.startswith("tokenizer.") and not import_is_allowed(part_of(path), module.split(".")[1])
    ]
    assert wrong == []


def test_the_library_is_pure_torch():
    foreign = {"lightning", "pytorch_lightning", "hydra", "omegaconf", "wandb", "experiments"}
    assert [location(path, node) for path in LIBRARY for module, node in imports(path) if module.partition(".")[0] in foreign] == []


def rank(module: str) -> int:
    """Place of a module of experiments in the import order; verbs are on top."""
    package = module.split(".")[1]
    return ORDER.index(package) if package in ORDER else len(ORDER)


def test_packages_of_experiments_import_only_what_is_below_them():
    wrong = []
    for path in sorted(ROOT.glob("experiments/**/*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for other, node in imports(path):
            if other.startswith("experiments.") and module != "experiments.__init__" and rank(other) > rank(module):
                wrong.append(f"{location(path, node)} imports {other}")
    assert wrong == []


def test_only_verbs_are_at_the_top_of_experiments():
    top = {path.stem for path in ROOT.glob("experiments/*.py")} - {"__init__"}
    packages = {path.parent.name for path in ROOT.glob("experiments/*/__init__.py")}
    assert packages == set(ORDER)
    assert [name for name in sorted(top) if "__main__" not in (ROOT / "experiments" / f"{name}.py").read_text()] == []


def test_only_composing_imports_hydra():
    users = {location(path) for path in CODE for module, _ in imports(path) if module.partition(".")[0] == "hydra"}
    assert users == {f"experiments/config/{name}.py" for name in ("compose", "overrides", "selection")}


def test_importing_the_library_loads_no_framework():
    assert loaded_after("import tokenizer, tokenizer.image_tokenizer") & {"lightning", "hydra", "omegaconf", "wandb"} == set()


def test_importing_a_verb_loads_nothing_heavy():
    verbs = [path.stem for path in sorted(ROOT.glob("experiments/*.py")) if "__main__" in path.read_text()]
    statement = "\n".join(f"import experiments.{verb}" for verb in ["config.compose", *verbs])
    assert loaded_after(statement) & {"torch", "torchvision", "lightning", "wandb", "timm", "torchmetrics"} == set()


def test_another_system_than_posix_is_one_line():
    done = subprocess.run([sys.executable, "-c", "import os; os.name = 'nt'; import experiments"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "Linux or macOS" in done.stderr


def test_the_metric_classes_are_read_without_torch():
    assert loaded_after("import experiments.evaluation.metrics") & {"torch", "torchmetrics", "lpips", "numpy", "sklearn"} == set()


def test_files_are_short():
    tests = sorted(ROOT.glob("tests/**/*.py"))
    lengths = {location(path): len(path.read_text().splitlines()) for path in [*CODE, *tests]}
    assert {name: length for name, length in lengths.items() if length > FILE_LINES} == {}
    verbs = {name: length for name, length in lengths.items() if name.startswith("experiments/") and name.count("/") == 1}
    assert {name: length for name, length in verbs.items() if length > VERB_LINES} == {}


def test_functions_are_short():
    long = [
        f"{location(path, function)} {function.name}"
        for path in CODE
        for function in functions(path)
        if (function.end_lineno or 0) - function.lineno + 1 > FUNCTION_LINES
    ]
    assert long == []


def test_constructors_take_few_arguments_and_swallow_none():
    wrong = []
    for path in CODE:
        for function in (function for function in functions(path) if function.name == "__init__"):
            names = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            if len(names) - 1 > CONSTRUCTOR_ARGUMENTS or function.args.kwarg or function.args.vararg:
                wrong.append(location(path, function))
    assert wrong == []


def test_no_class_or_forward_is_replaced_from_outside():
    assigned = [
        (path, target)
        for path in CODE
        for node in ast.walk(tree(path))
        for target in (node.targets if isinstance(node, ast.Assign) else [])
        if isinstance(target, ast.Attribute)
    ]
    assert [location(path, target) for path, target in assigned if target.attr in ("__class__", "forward")] == []


def test_the_module_search_path_is_not_edited():
    uses = [
        location(path, node)
        for path in [*CODE, *sorted(ROOT.glob("tests/**/*.py"))]
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr == "path" and isinstance(node.value, ast.Name) and node.value.id == "sys"
    ]
    assert uses == []


def test_foreign_yaml_and_json_is_read_by_one_module():
    own = (ROOT / "experiments/config/parsing.py", ROOT / "experiments/data/contents.py")  # the second reads what this machine wrote
    readers = {"safe_load", "load", "load_all", "loads", "safe_load_all", "full_load", "unsafe_load"}
    found = [
        location(path, node)
        for path in (ROOT / "experiments").rglob("*.py")
        if path not in own
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
        and node.attr in readers
        and isinstance(node.value, ast.Name)
        and node.value.id in ("yaml", "json")
    ]
    assert found == []


def test_print_is_not_called():
    calls = [
        location(path, node)
        for path in CODE
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == []


def test_class_names_are_unique():
    names = Counter(node.name for path in CODE for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1 and not name.startswith("_")] == []


def test_every_module_has_a_docstring():
    assert [location(path) for path in CODE if tree(path).body and not ast.get_docstring(tree(path))] == []


def test_no_module_is_called_utils():
    assert [location(path) for path in CODE if {"utils", "util", "helpers", "common"} & {path.stem, *path.relative_to(ROOT).parts}] == []


def test_the_wheel_has_all_packages_and_the_configuration_files():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in CODE if path.name == "__init__.py"}
    assert set(listed) == packages | {"experiments.conf"}


def values(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in a configuration file with the name it has."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from values(value, str(name))
    elif isinstance(node, list):
        for value in node:
            yield from values(value, key)
    else:
        yield key, node


@pytest.mark.parametrize("path", CONF, ids=location)
def test_a_configuration_file_names_existing_targets_and_no_absolute_path(path):
    for key, value in values(read_yaml(path)):
        if key == "_target_":
            signature(value)
        assert not (isinstance(value, str) and value.startswith(("/", "~"))), f"{key}: {value} is an absolute path"


@pytest.mark.parametrize("path", [path for path in CONF if path.parent.name in MIRRORED], ids=location)
def test_a_part_is_in_the_module_that_its_file_is_named_after(path):
    folder = f"tokenizer.{MIRRORED[path.parent.name]}."
    targets = [value for key, value in values(read_yaml(path)) if key == "_target_" and value.startswith(folder)]
    stems = [target.removeprefix(folder).partition(".")[0] for target in targets]
    assert not stems or any(path.stem == stem or path.stem.startswith(f"{stem}_") for stem in stems)


def test_main_files_are_merged_before_experiments():
    for path in ROOT.glob("conf/*.yaml"):
        defaults = (yaml.safe_load(path.read_text()) or {}).get("defaults")
        assert not defaults or defaults[0] == "_self_", location(path)


def test_the_top_level_has_no_other_files():
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    assert {name.partition("/")[0] for name in listing.stdout.splitlines()} - TOP_LEVEL == set()
