"""Compose a configuration and check it before anything heavy is imported.

Overrides are checked against the configuration files first, so that a wrong one has a short message; then Hydra composes once.
No Hydra folder and no Hydra log is written.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.config.checks import check_keys, check_missing, check_targets
from experiments.config.command_line import main
from experiments.config.draft import Draft, at, dotted
from experiments.config.errors import ConfigError, DamagedFile, TesseraError, nearest
from experiments.config.files import ConfigFolders, read_yaml
from experiments.config.flat import compose_flat
from experiments.config.help_text import POSITIONAL
from experiments.config.origins import check_origins, check_plugins
from experiments.config.overrides import check_override, expand, mount_of, parse, split, written
from experiments.config.packages import CONF, allow_plugins
from experiments.config.paths import with_home
from experiments.config.selection import hydra_loader, select
from tokenizer.weights import MissingWeightsError

__all__ = ["CONF", "Composition", "ConfigError", "compose", "expand", "main"]


@dataclass(frozen=True)
class Composition:
    """A configuration that has passed all checks."""

    config: dict[str, Any]  # plain nested containers, all interpolations resolved
    overrides: list[str]  # as the command line has them, the options for files among them
    draft: Draft  # the same configuration with its interpolations as text, and its files
    settings: Any  # the verb's own, an instance of its class in `experiments.config.settings`
    others: tuple[str, ...] = ()  # of a verb over tables: overrides for the training of every row

    @property
    def choices(self) -> dict[str, str | None]:
        """The chosen file of each group, `optimizer@discriminator_optimizer` for a group mounted elsewhere."""
        return self.draft.choices


def compose(verb: str, overrides: list[str], config_dir: Path = CONF) -> Composition:
    """Compose `<verb>.yaml` with overrides, resolve it and check it.

    Overrides are `key=value` in Hydra's grammar, and `--config-dir=FOLDER` for more configuration files.

    Raises:
        ConfigError: anything that is wrong with it.
        MissingWeightsError: it needs weights of a network that are not on this machine.
    """
    plain, added, name = split(overrides)
    folders, name = ConfigFolders(config_dir.resolve(), added), name or verb
    if folders.find(name) is None:
        known, reason = folders.verbs(), f"there is no {folders.main.name}/{name}.yaml"
        raise ConfigError(name, reason=reason, expected=f"one of {', '.join(known)}", nearest=nearest(name, known))
    others: tuple[str, ...] = ()
    with _readable(folders):
        if verb in POSITIONAL:
            draft, others = compose_flat(verb, name, plain, folders)
            resolved = with_home(draft.raw)
            others = (*(word for word in overrides if word not in plain), *others)
        else:
            draft, resolved = _composed(name, plain, folders)
    return Composition(resolved, list(overrides), draft, _validated(verb, draft, resolved), others)


def _composed(name: str, plain: list[str], folders: ConfigFolders) -> tuple[Draft, dict[str, Any]]:
    from omegaconf import OmegaConf

    from experiments.config.resolvers import register

    register()
    overrides = parse(plain)
    for override, word in zip(overrides, plain, strict=True):
        check_override(override, word, folders)
    with hydra_loader(folders) as loader:
        draft = select(name, overrides, folders, loader)
        from hydra import compose as hydra_compose

        config = hydra_compose(name, overrides=[override.input_line or "" for override in overrides])
    draft = replace(draft, raw=OmegaConf.to_container(config, resolve=False), words=written(plain))  # type: ignore[arg-type]
    check_missing(draft)
    check_keys(draft)
    resolved = _resolved(draft, OmegaConf.create(with_home(draft.raw)))
    plugins = resolved.get("plugins") or []
    plugins = [str(name) for name in (plugins if isinstance(plugins, list) else [plugins])]
    check_plugins(plugins, [mount_of(override) for override in overrides])
    allow_plugins(plugins)
    try:
        check_targets(resolved)
        check_origins(resolved, folder=folders.main)
    except ConfigError as error:
        raise draft.explain(error) from error
    return draft, resolved


@contextmanager
def _readable(folders: ConfigFolders) -> Iterator[None]:
    """Errors of Hydra, OmegaConf and YAML as ours; a file that is not YAML is named."""
    from hydra.errors import HydraException
    from omegaconf.errors import GrammarParseError, OmegaConfBaseException
    from yaml import YAMLError

    try:
        yield
    except DamagedFile as error:
        if not any(error.path.is_relative_to(folder) for folder in folders.all):  # it is of a run or a model
            raise
        raise ConfigError(folders.label(error.path), reason=error.reason) from error
    except (YAMLError, UnicodeDecodeError, GrammarParseError) as error:
        files = [path for folder in folders.all for path in sorted(folder.rglob("*.yaml"))]
        place = next((folders.label(path) for path in files if not _is_yaml(path)), folders.main.name)
        raise ConfigError(place, reason=f"cannot be read: {_one_line(error)}") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(reason=_one_line(error)) from error


def _is_yaml(path: Path) -> bool:
    try:
        read_yaml(path)
    except Exception:  # of YAML, of OmegaConf, or of decoding: the caller re-raises the first one
        return False
    return True


def _one_line(error: BaseException) -> str:
    while not str(error) and error.__cause__:
        error = error.__cause__
    return " ".join(str(error).partition("\nTo append")[0].partition("\nConfig search path")[0].partition("full_key:")[0].split())


def _resolved(draft: Draft, config: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

    try:
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        cause: BaseException | None = error
        while cause and not isinstance(cause, TesseraError | MissingWeightsError):
            cause = cause.__cause__ or cause.__context__
        if isinstance(cause, ConfigError):
            raise draft.explain(cause) from error
        if isinstance(cause, MissingWeightsError):
            place = draft.place(str(error.full_key))
            raise MissingWeightsError(f"{place}: {cause}" if place else str(cause)) from error
        if cause:
            raise cause from error
        if isinstance(error, InterpolationKeyError):
            raise _unknown_reference(draft, str(error.full_key)) from error
        raise ConfigError(str(error.full_key), reason=_one_line(error)) from error


def _unknown_reference(draft: Draft, key: str) -> ConfigError:
    known = list(dotted(draft.raw))
    value = at(draft.raw, key)
    names = [name for name in re.findall(r"\$\{([\w.]+)\}", str(value)) if name not in known]
    reason = f"refers to `{names[0]}`, which this configuration does not have" if names else "refers to a key that does not exist"
    return ConfigError(key, value, reason=reason, nearest=nearest(names[0], known) if names else "", place=draft.place(key), advice="")


def _validated(verb: str, draft: Draft, resolved: dict[str, Any]) -> Any:
    """The settings of a verb as their class has them; None for a verb without one."""
    from pydantic import ValidationError

    from experiments.config.settings import SETTINGS
    from experiments.config.validation import config_error

    if verb not in SETTINGS:
        return None
    try:
        return SETTINGS[verb].model_validate(resolved)
    except ValidationError as error:
        raise draft.explain(config_error(error, SETTINGS[verb])) from error
