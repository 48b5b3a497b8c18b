"""Compose a configuration and check it before anything heavy is imported. With `override_words`, the only entry to Hydra.

A verb is a file `experiments/<verb>.py` with `main("<verb>", run, description)` and its settings in `conf/<verb>.yaml`.
No Hydra folder and no Hydra log is written; every error of a configuration is one message and exit status 1.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import GrammarParseError, InterpolationKeyError, OmegaConfBaseException

from experiments.config.checks import (
    MAIN_GROUPS,
    OVERRIDING_GROUPS,
    Draft,
    Source,
    check_keys,
    check_missing,
    check_targets,
    check_types,
    dotted,
    nearest,
    read_yaml,
    unknown_group,
    unknown_key,
)
from experiments.config.command_line import help_text, run_command, run_jobs
from experiments.config.errors import ConfigError
from experiments.config.overrides import check_word, expand, expand_table, is_group, parse
from experiments.config.resolvers import register
from experiments.config.signatures import CONF
from tokenizer.weights import MissingWeightsError

__all__ = ["CONF", "Composition", "ConfigError", "compose", "expand", "main"]

OPTIONS = "--help, --multirun (-m), --cfg job, --cfg job --resolve"


@dataclass(frozen=True)
class Composition:
    """A configuration that has passed all checks.

    Attributes:
        config: plain nested containers, all interpolations resolved.
        overrides: the words that it was composed with.
        choices: the chosen file of each group, `optimizer@discriminator_optimizer` for a group mounted elsewhere.
        unresolved: the same tree with its interpolations as text.
    """

    config: dict[str, Any]
    overrides: list[str]
    choices: dict[str, str | None]
    unresolved: dict[str, Any]


def compose(verb: str, overrides: list[str], config_dir: Path = CONF) -> Composition:
    """Compose `<verb>.yaml` with Hydra's override words, resolve it and check it.

    Raises:
        ConfigError: anything that is wrong with it, as one message.
        MissingWeightsError: it needs weights of a network that are not on this machine.
    """
    config_dir = config_dir.resolve()
    if not (config_dir / f"{verb}.yaml").is_file():
        known = sorted(path.stem for path in config_dir.glob("*.yaml"))
        raise ConfigError(f"{verb}: there is no {config_dir.name}/{verb}.yaml{nearest(verb, known)}; known: {', '.join(known)}")
    words = parse(overrides)
    for word in words:
        check_word(word, config_dir)
    try:
        draft, config = _load(verb, overrides, config_dir)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise _explained(verb, words, config_dir, error) from error
    check_missing(draft)
    check_keys(draft)
    resolved = _resolved(draft, config)
    check_types(draft, resolved)
    check_targets(draft, resolved)
    return Composition(resolved, list(overrides), draft.choices, draft.raw)


def main(verb: str, run: Callable[[Composition], int | None], description: str, config_dir: Path = CONF) -> None:
    """The command line of a verb: read it, compose, check, and call `run`; ends the process.

    Args:
        verb: name of the module in experiments and of the file in conf.
        run: does the work; imports what is heavy inside. What it returns is the exit status.
        description: one sentence for --help.
        config_dir: where the configuration files lie.
    """
    run_command(lambda words: _command(verb, run, description, config_dir, words))


def _command(verb: str, run: Callable[[Composition], int | None], description: str, config_dir: Path, words: list[str]) -> int | None:
    flags = [word for word in words if word.startswith("-")]
    values = [word for word in words if not word.startswith("-")]
    unknown = [flag for flag in flags if flag not in ("-h", "--help", "-m", "--multirun", "--cfg", "--resolve")]
    if unknown:
        raise ConfigError(f"{unknown[0]}: unknown option; known: {OPTIONS}; settings are written key=value")
    if {"-h", "--help"} & set(flags):
        sys.stdout.write(help_text(verb, description, config_dir, tuple(values)))
        return 0
    multirun = bool({"-m", "--multirun"} & set(flags))
    if "--cfg" in flags:
        if multirun:
            table = "; for the rows of a table: python -m experiments.sweep TABLE plan"
            raise ConfigError(f"--cfg prints the configuration of one run: leave out --multirun{table}")
        if words[words.index("--cfg") + 1 :][:1] != ["job"]:
            raise ConfigError("--cfg: expected `--cfg job`")
        values.remove("job")
        composition = compose(verb, values, config_dir)
        shown = composition.config if "--resolve" in flags else composition.unresolved
        sys.stdout.write(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))
        return 0
    if multirun:
        return _multirun(verb, values, config_dir)
    return run(compose(verb, values, config_dir))


def _multirun(verb: str, overrides: list[str], config_dir: Path) -> int:
    if verb == "train" and any(word.key_or_group == "sweep" for word in parse(overrides)):
        tables = expand_table(overrides, config_dir)
        return run_jobs("sweep", tables, [" ".join(words) for words in tables])  # which judges each itself
    jobs = expand(overrides, config_dir)
    labels = [" ".join(word for word in job if word not in overrides) or verb for job in jobs]
    for number, (label, job) in enumerate(zip(labels, jobs, strict=True), 1):
        try:
            compose(verb, job, config_dir)
        except (ConfigError, MissingWeightsError) as error:
            raise ConfigError(f"job {number} of {len(jobs)} ({label}), none was started: {error}") from error
    return run_jobs(verb, jobs, labels)


def _load(verb: str, overrides: list[str], config_dir: Path) -> tuple[Draft, DictConfig]:
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir)):
        config = hydra_compose(verb, overrides=overrides)
        defaults = GlobalHydra.instance().config_loader().compute_defaults_list(verb, overrides, RunMode.RUN)
    sources = [
        Source(config_dir / f"{file.config_path}.yaml", _mounted(read_yaml(config_dir / f"{file.config_path}.yaml"), file.package))
        for file in defaults.defaults
        if file.config_path and not file.config_path.startswith("hydra/")
    ]
    chosen = {name: choice for name, choice in sorted(defaults.overrides.known_choices.items()) if not name.startswith("hydra/")}
    raw: Any = OmegaConf.to_container(config, resolve=False)
    return Draft(raw, sources, chosen, config_dir, verb), config


def _mounted(keys: dict[str, Any], package: str | None) -> dict[str, Any]:
    for part in reversed(package.split(".") if package else []):
        keys = {part: keys}
    return keys


def _explained(verb: str, words: list[Override], config_dir: Path, error: Exception) -> ConfigError:
    """Find the word that Hydra stumbled over by composing again with group choices alone."""
    groups = [word for word in words if is_group(word, config_dir)]
    main = [word.input_line or "" for word in groups if word.key_or_group in (*MAIN_GROUPS, *OVERRIDING_GROUPS)]
    try:
        plain, _ = _load(verb, main, config_dir)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as broken:
        return _misplaced(verb, main, config_dir, broken) or ConfigError(_one_line(broken, config_dir))
    for word in groups:
        if word.get_key_element() not in plain.choices and not word.is_add() and not word.is_delete():
            return unknown_group(plain, word.get_key_element(), word.input_line or "")
    try:
        draft, _ = _load(verb, [word.input_line or "" for word in groups], config_dir)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as broken:
        return ConfigError(_one_line(broken, config_dir))
    check_keys(draft)  # a file that does not go with the others may have brought the words' group away
    known = set(dotted(draft.raw))
    for word in words:
        if word not in groups and word.key_or_group not in known:
            return unknown_key(draft, word.key_or_group, word.input_line or "")
        if word.is_add() and word not in groups and not word.is_force_add():
            return ConfigError(f"{word.input_line}: the key is there already, write it without +")
    return ConfigError(_one_line(error, config_dir))


def _misplaced(verb: str, main: list[str], config_dir: Path, error: Exception) -> ConfigError | None:
    """The error for an experiment or scale file that chooses in a group which the task does not have; None if it is something else."""
    found = re.match(r"In '([^']+)': Could not override '([^']+)'", _one_line(error, config_dir))
    if not found:
        return None
    file, mount = found.groups()
    without, _ = _load(verb, [word for word in main if not word.startswith(f"{file.partition('/')[0]}=")], config_dir)
    return unknown_group(without, mount, f"{config_dir.name}/{file}.yaml")


def _one_line(error: BaseException, config_dir: Path) -> str:
    while not str(error) and error.__cause__:
        error = error.__cause__
    text = " ".join(str(error).partition("\nTo append")[0].partition("\nConfig search path")[0].split())
    text = re.sub(r" full_key: (\S+).*", r" (at \1)", text)
    if not isinstance(error, GrammarParseError | yaml.YAMLError):
        return text
    unreadable = next((path for path in sorted(config_dir.rglob("*.yaml")) if not _readable(path)), config_dir)
    return f"{config_dir.name}/{unreadable.relative_to(config_dir)} cannot be read: {text}"


def _readable(path: Path) -> bool:
    try:
        read_yaml(path)
    except (OmegaConfBaseException, yaml.YAMLError):
        return False
    return True


def _purposeful(error: BaseException) -> BaseException | None:
    """What a resolver of ours raised, from within OmegaConf's wrapping."""
    inner: BaseException | None = error
    while inner and (isinstance(inner, OmegaConfBaseException) or not isinstance(inner, ValueError | MissingWeightsError)):
        inner = inner.__cause__ or inner.__context__
    return inner


def _resolved(draft: Draft, config: DictConfig) -> dict[str, Any]:
    try:
        resolved: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        cause = _purposeful(error)
        if cause:
            key = str(cause).partition("=")[0]
            kind = MissingWeightsError if isinstance(cause, MissingWeightsError) else ConfigError
            raise kind(draft.cause(key).partition(key)[0] + str(cause)) from error
        found = re.search(r"Interpolation key '([^']+)' not found", str(error)) if isinstance(error, InterpolationKeyError) else None
        if found:
            near = nearest(found[1], dotted(draft.raw))
            raise ConfigError(f"{error.full_key} refers to `{found[1]}`, which this configuration does not have{near}") from error
        raise ConfigError(f"{error.full_key}: {_one_line(error, draft.folder)}") from error
    return resolved
