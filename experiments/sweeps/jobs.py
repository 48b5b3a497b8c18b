"""The jobs of a sweep: every row with every seed, composed and checked before any of them starts. Imports no torch."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from experiments.config.compose import Composition, compose
from experiments.config.errors import ConfigError, DataError, nearest
from experiments.config.packages import CONF
from experiments.probing.generators import check_groups
from experiments.tables.measurements import Measurement, measurements
from experiments.tables.sweep_file import Row, SweepFile
from experiments.training.checks import check
from tokenizer.weights import MissingWeightsError


@dataclass(frozen=True)
class Job:
    """One row with one seed.

    Attributes:
        row: row of the sweep file.
        seed: run seed.
        overrides: overrides that train it.
        composition: its configuration; None if the row cannot be run here.
        why_not: reason why it cannot, empty otherwise.
        absent: absent weights, if that is the reason.
        measurements: evaluations and probes that follow the training.
    """

    row: Row
    seed: int
    overrides: list[str]
    composition: Composition | None
    why_not: str = ""
    absent: str = ""
    measurements: list[Measurement] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the row, with the seed unless that is 0."""
        return f"{self.row.name}-seed{self.seed}" if self.seed else self.row.name


def compose_jobs(
    sweep: SweepFile, scale: str, seeds: Iterable[int], extra: Iterable[str] = (), only: Iterable[str] = (), config_dir: Path = CONF
) -> list[Job]:
    """Compose and check all jobs, in the file's order, the seeds of a row together.

    At `scale=paper` absent weights are an error; at the others their rows are marked as "weights absent".

    Args:
        sweep: table.
        scale: file of conf/scale.
        seeds: seeds of each row.
        extra: overrides for every row.
        only: names of rows; empty for all.
        config_dir: folder of the configuration files.

    Raises:
        ConfigError: the first wrong row, with file and row, an unknown name in `only`, or an override that no sweep can have.
        MissingWeightsError: weights of a row are absent at scale=paper.
    """
    names = [row.name for row in sweep.runs]
    for name in only:
        if name not in names:
            reason = f"{sweep.name} has no such row"
            raise ConfigError("only", name, reason=reason, expected=f"one of {', '.join(names)}", nearest=nearest(name, names))
    extra = list(extra)
    for override in extra:
        key, _, value = override.partition("=")
        if key in ("rerun", "resume"):
            advice = "run the row by experiments.train"
            raise ConfigError(key, value, reason="a sweep neither repeats a run nor names its folder", advice=advice)
    chosen = [row for row in sweep.runs if not only or row.name in only]
    return [_job(sweep, row, scale, seed, extra, config_dir) for row in chosen for seed in seeds]


def _job(sweep: SweepFile, row: Row, scale: str, seed: int, extra: list[str], config_dir: Path) -> Job:
    overrides = sweep.training_overrides(row, scale, seed, extra)
    job = Job(row, seed, overrides, None, "weights absent")
    place = sweep.place_of(row)
    try:
        composition = compose("train", [*overrides, *_logger_overrides(sweep, job.name, extra)], config_dir)
        check(composition.config)
        measured = measurements(sweep, row, scale, composition, extra)
        for each in measured:
            _check(each, config_dir)
    except MissingWeightsError as error:
        if scale == "paper":
            raise MissingWeightsError(f"{place}: {error}", error.name) from error
        return replace(job, absent=str(error))
    except ConfigError as error:
        is_extra = error.key in [override.partition("=")[0].lstrip("+~") for override in extra]
        raise error.at("for the training of every row" if is_extra else place) from error
    except DataError as error:
        raise ConfigError(place=place, reason=str(error)) from error
    return replace(job, overrides=composition.overrides, composition=composition, why_not="", measurements=measured)


def _check(measurement: Measurement, config_dir: Path) -> None:
    probe = measurement.composition
    try:
        if probe is None:
            compose("evaluate", ["model=run", *measurement.overrides], config_dir)
        else:
            check_groups(probe.config["training"]["groups"], probe.draft.folders)
    except ConfigError as error:
        raise error.at(measurement.title) from error


def _logger_overrides(sweep: SweepFile, name: str, extra: list[str]) -> list[str]:
    """Overrides that group a table's runs in W&B, without those that the command line has."""
    if "logger=wandb" not in extra:
        return []
    settings = {"logger.group": sweep.name, "logger.name": name, "logger.tags": f"[{sweep.name.replace('/', ',')}]"}
    return [f"{key}={value}" for key, value in settings.items() if not any(override.startswith(f"{key}=") for override in extra)]
