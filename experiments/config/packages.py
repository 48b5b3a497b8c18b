"""Where the project's files are, and the packages whose classes and functions a configuration may name. Imports none of them."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from experiments.config.errors import ConfigError

PACKAGES = ("tokenizer", "experiments")
ROOT = Path(__file__).resolve().parents[2]  # a checkout, or the folder that a wheel is installed in
_INSTALLED = ROOT / "experiments" / "conf"
CONF = _INSTALLED if _INSTALLED.is_dir() else ROOT / "conf"

_plugins: dict[str, None] = {}  # of the command line of this process, in order


def allow_plugins(names: Iterable[str]) -> None:
    """Allow `_target_`s in more packages from now on.

    A name must come from the command line: what a run folder or an export records is no permission to import anything.

    Raises:
        ConfigError: there is no such package.
    """
    for name in names:
        if not name.isidentifier() or importlib.util.find_spec(name) is None:
            raise ConfigError("plugins", name, expected="the name of an importable package; is its folder in PYTHONPATH?")
        _plugins[name] = None


def buildable_packages() -> tuple[str, ...]:
    """Packages that a configuration of the command line may name."""
    return *PACKAGES, *_plugins


def model_packages() -> tuple[str, ...]:
    """Packages that the model in a run folder or an export may name."""
    return "tokenizer", *_plugins


def module_path(module: str) -> Path | None:
    """Source file of a module, found without importing it; None if there is none."""
    top, *parts = module.split(".")
    place = ROOT / top
    if top not in PACKAGES:
        spec = importlib.util.find_spec(top)
        if spec is None or spec.origin is None:
            return None
        place = Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin).with_suffix("")
    place = place.joinpath(*parts)
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)
