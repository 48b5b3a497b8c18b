"""Signatures of classes and functions, read from source: a configuration is checked before what it names is imported."""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from experiments.config.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
PACKAGES = ("tokenizer", "experiments")
NUMBERS = {"int": "a whole number (int)", "float": "a number (float)"}
PLAIN: dict[str, tuple[type, str]] = {
    "bool": (bool, "true or false (bool)"),
    "str": (str, "text (str)"),
    "list": (list, "a list"),
    "tuple": (list, "a list"),
    "dict": (dict, "a mapping"),
}
SEQUENCES = ("list", "tuple", "Sequence", "Iterable", "set", "frozenset")
MAPPINGS = ("dict", "Mapping", "MutableMapping")


@dataclass(frozen=True)
class Argument:
    """One argument of a constructor.

    Attributes:
        annotation: its type as written, None where there is none.
        module: the module whose names the annotation uses.
        required: it has no default.
    """

    annotation: ast.expr | None
    module: str
    required: bool

    def accepts(self, value: Any) -> bool:
        """Whether a plain value suits the annotation; annotations that are not plain accept everything."""
        return _fits(value, self.annotation, self.module)

    @property
    def expectation(self) -> str:
        """What the annotation asks for, in words."""
        return _describe(self.annotation, self.module)

    @property
    def words(self) -> list[str]:
        """The words a Literal allows, empty for other annotations."""
        return [word for word in _literal(self.annotation, self.module) if isinstance(word, str)]


def show(value: Any) -> str:
    """A value as one writes it on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value).replace("'", "")


def signature(target: str) -> dict[str, Argument]:
    """Arguments of the class or function that `target` names, by name.

    A class without constructor has that of its first base in this project that has one; bases from elsewhere count as taking nothing.

    Raises:
        ConfigError: the target lies outside tokenizer and experiments, or does not exist.
    """
    module, _, name = target.rpartition(".")
    if module.split(".")[0] not in PACKAGES:
        raise ConfigError(f"_target_ {target}: expected something in {' or '.join(PACKAGES)}")
    if _path(module) is None:
        raise ConfigError(f"_target_ {target}: there is no module {module}")
    found = _find(module, name)
    owner, node = found or (module, None)
    if isinstance(node, ast.FunctionDef):
        return _of_function(node, owner, skip=0)
    if not isinstance(node, ast.ClassDef):
        raise ConfigError(f"_target_ {target}: {module} defines no class or function {name}; it has {', '.join(_public(module))}")
    return _of_class(node, owner) or {}


def _path(module: str) -> Path | None:
    place = ROOT.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


@cache
def _parse(path: Path) -> list[ast.stmt]:
    statements: list[ast.stmt] = []
    for statement in ast.parse(path.read_text(), str(path)).body:
        statements += statement.body if isinstance(statement, ast.If) else [statement]
    return statements


def _public(module: str) -> list[str]:
    path = _path(module)
    definitions = (node for node in _parse(path) if isinstance(node, ast.ClassDef | ast.FunctionDef)) if path else ()
    return [node.name for node in definitions if not node.name.startswith("_")]


def _find(module: str, name: str) -> tuple[str, ast.AST] | None:
    """The definition of a name: a class, a function, or the expression that it is an alias of. Imports are followed."""
    path = _path(module)
    for node in _parse(path) if path else []:
        match node:
            case ast.ClassDef() | ast.FunctionDef() if node.name == name:
                return module, node
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                return module, value
            case ast.ImportFrom(module=str(origin), names=aliases, level=0):
                for alias in aliases:
                    if (alias.asname or alias.name) == name:
                        return _find(origin, alias.name)
    return None


def _of_function(function: ast.FunctionDef, module: str, skip: int) -> dict[str, Argument]:
    positional = [*function.args.posonlyargs, *function.args.args]
    without_default = len(positional) - len(function.args.defaults)
    found = {arg.arg: Argument(arg.annotation, module, place < without_default) for place, arg in enumerate(positional) if place >= skip}
    for arg, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        found[arg.arg] = Argument(arg.annotation, module, default is None)
    return found


def _of_class(node: ast.ClassDef, module: str) -> dict[str, Argument] | None:
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return _of_function(statement, module, skip=1)
    found = (_find(module, base.id) for base in node.bases if isinstance(base, ast.Name))
    of_bases = (_of_class(base[1], base[0]) for base in found if base and isinstance(base[1], ast.ClassDef))
    inherited = next((arguments for arguments in of_bases if arguments is not None), None)
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return inherited
    fields = dict(inherited or {})
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            fields[statement.target.id] = Argument(statement.annotation, module, statement.value is None)
    return fields


def _unwrapped(annotation: ast.expr | None, module: str) -> tuple[ast.expr | None, str]:
    """The annotation behind quotes, `Annotated`, `Optional` and aliases of this project, and the module it is written in."""
    match annotation:
        case ast.Constant(value=str(text)):
            return _unwrapped(ast.parse(text, mode="eval").body, module)
        case ast.Name(id=name) if name not in NUMBERS and name not in PLAIN:
            found = _find(module, name)
            if found and isinstance(found[1], ast.expr):
                return _unwrapped(found[1], found[0])
    return annotation, module


def _head(annotation: ast.Subscript) -> str:
    return ast.unparse(annotation.value).rpartition(".")[2]


def _inner(annotation: ast.Subscript) -> list[ast.expr]:
    return annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]


def _options(annotation: ast.expr) -> list[ast.expr]:
    """The members of a union; a single one for anything else."""
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return [*_options(annotation.left), *_options(annotation.right)]
    if isinstance(annotation, ast.Subscript) and _head(annotation) == "Union":
        return _inner(annotation)
    if isinstance(annotation, ast.Subscript) and _head(annotation) == "Optional":
        return [*_inner(annotation), ast.Constant(None)]
    return [annotation]


def _literal(annotation: ast.expr | None, module: str) -> list[Any]:
    annotation, module = _unwrapped(annotation, module)
    if annotation is None:
        return []
    if len(options := _options(annotation)) > 1:
        return [word for option in options for word in _literal(option, module)]
    if isinstance(annotation, ast.Subscript) and _head(annotation) == "Literal":
        return [member.value for member in _inner(annotation) if isinstance(member, ast.Constant)]
    return []


def _fits(value: Any, annotation: ast.expr | None, module: str) -> bool:
    annotation, module = _unwrapped(annotation, module)
    if annotation is None or (isinstance(value, dict) and "_target_" in value):
        return True
    if len(options := _options(annotation)) > 1:
        return any(_fits(value, option, module) for option in options)
    match annotation:
        case ast.Constant(value=None):
            return value is None
        case ast.Name(id="int"):
            return isinstance(value, int) and not isinstance(value, bool)
        case ast.Name(id="float"):
            return isinstance(value, int | float) and not isinstance(value, bool)
        case ast.Name(id=name) if name in PLAIN:
            return isinstance(value, PLAIN[name][0])
        case ast.Subscript():
            return _fits_subscript(value, annotation, module)
    return True


def _fits_subscript(value: Any, annotation: ast.Subscript, module: str) -> bool:
    head, inner = _head(annotation), _inner(annotation)
    if head == "Literal":
        return any(type(value) is type(word) and value == word for word in _literal(annotation, module))
    if head in MAPPINGS:
        return isinstance(value, dict) and all(_fits(entry, inner[-1], module) for entry in value.values())
    if head not in SEQUENCES:
        return True
    if not isinstance(value, list):
        return False
    if head == "tuple" and not (isinstance(inner[-1], ast.Constant) and inner[-1].value is ...):
        return len(value) == len(inner) and all(_fits(entry, kind, module) for entry, kind in zip(value, inner, strict=True))
    return all(_fits(entry, inner[0], module) for entry in value)


def _describe(annotation: ast.expr | None, module: str) -> str:
    annotation, module = _unwrapped(annotation, module)
    if annotation is None:
        return "anything"
    if len(options := _options(annotation)) > 1:
        return " or ".join(_describe(option, module) for option in options)
    match annotation:
        case ast.Constant(value=None):
            return "null"
        case ast.Name(id=name) if name in NUMBERS:
            return NUMBERS[name]
        case ast.Name(id=name) if name in PLAIN:
            return PLAIN[name][1]
        case ast.Subscript() if _head(annotation) == "Literal":
            return "one of " + ", ".join(str(word) for word in _literal(annotation, module))
        case ast.Subscript() if _head(annotation) in SEQUENCES:
            inner = [kind for kind in _inner(annotation) if not (isinstance(kind, ast.Constant) and kind.value is ...)]
            count = f"a list of {len(inner)}" if len(inner) > 1 else "a list"
            return f"{count}, each {_describe(inner[0], module)}"
        case ast.Subscript() if _head(annotation) in MAPPINGS:
            return f"a mapping to {_describe(_inner(annotation)[-1], module)}"
    return ast.unparse(annotation)
