"""Names of constructor arguments, read from source: keys of a configuration are checked before what it names is imported."""

import ast
from functools import cache
from pathlib import Path

from experiments.config.errors import ConfigError
from experiments.config.packages import buildable_packages, module_path


def signature(target: str) -> dict[str, bool]:
    """Arguments of a class or function by name, and whether each is required.

    A class without constructor has that of its first base in an allowed package; bases from elsewhere count as taking nothing.

    Raises:
        ConfigError: the target is in no allowed package, or does not exist.
    """
    module, _, name = target.rpartition(".")
    if module.split(".")[0] not in buildable_packages():
        expected = f"a class or function in {' or '.join(buildable_packages())}"
        raise ConfigError("_target_", target, expected=expected, advice="plugins=[PACKAGE] allows another package")
    path = module_path(module)
    if path is None:
        raise ConfigError("_target_", target, reason=f"there is no module {module}")
    found = _find(module, name)
    owner, node = found or (module, None)
    if isinstance(node, ast.FunctionDef):
        return _of_function(node, skip=0)
    if not isinstance(node, ast.ClassDef):
        names = [node.name for node in _parse(path) if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        expected = f"one of {', '.join(name for name in names if not name.startswith('_'))}"
        raise ConfigError("_target_", target, reason=f"{module} defines no class or function {name}", expected=expected)
    return _of_class(node, owner) or {}


def is_class(target: str) -> bool:
    """Whether a dotted path is that of a class in an allowed package, found without importing it."""
    module, _, name = target.rpartition(".")
    found = _find(module, name)
    return found is not None and isinstance(found[1], ast.ClassDef)


@cache
def _parse(path: Path) -> list[ast.stmt]:
    """Statements of a module, those under `if` and `try` among them."""
    statements = list(ast.parse(path.read_text(), str(path)).body)
    for statement in statements:
        if isinstance(statement, ast.If | ast.Try):
            statements += [*statement.body, *statement.orelse]
    return statements


def _find(module: str, name: str) -> tuple[str, ast.stmt] | None:
    """Definition of a class or function, and its module. Imports are followed."""
    path = module_path(module) if module.split(".")[0] in buildable_packages() else None
    for node in _parse(path) if path else []:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _find(node.module, alias.name)
    return None


def _of_function(function: ast.FunctionDef, skip: int) -> dict[str, bool]:
    positional = [*function.args.posonlyargs, *function.args.args]
    required = len(positional) - len(function.args.defaults)
    arguments = {argument.arg: place < required for place, argument in enumerate(positional) if place >= skip}
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        arguments[argument.arg] = default is None
    return arguments


def _of_class(node: ast.ClassDef, module: str) -> dict[str, bool] | None:
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return _of_function(statement, skip=1)
    bases = (_find(module, base.id) for base in node.bases if isinstance(base, ast.Name))
    of_bases = (_of_class(base[1], base[0]) for base in bases if base and isinstance(base[1], ast.ClassDef))
    inherited = next((arguments for arguments in of_bases if arguments is not None), None)
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return inherited
    fields = [field for field in node.body if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)]
    return (inherited or {}) | {ast.unparse(field.target): field.value is None for field in fields}
