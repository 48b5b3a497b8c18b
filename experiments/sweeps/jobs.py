"""The jobs of a sweep: every row with every seed, composed and judged before any of them starts. Imports no torch."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.config.checks import nearest
from experiments.config.compose import Composition, compose
from experiments.config.errors import ConfigError
from experiments.config.signatures import CONF
from experiments.tables.sweep_file import Row, SweepFile
from experiments.training.checks import check
from tokenizer.weights import MissingWeightsError


@dataclass(frozen=True)
class Job:
    """One row with one seed.

    Attributes:
        row: of the sweep file.
        seed: of the run.
        words: that train it.
        composition: its configuration; None if the row cannot be run here.
        why_not: the reason, empty otherwise.
        absent: which weights, if that is the reason.
    """

    row: Row
    seed: int
    words: list[str]
    composition: Composition | None
    why_not: str = ""
    absent: str = ""

    @property
    def name(self) -> str:
        """Of the row, with the seed behind it unless that is 0."""
        return f"{self.row.name}-seed{self.seed}" if self.seed else self.row.name


def compose_jobs(
    sweep: SweepFile, scale: str, seeds: Iterable[int], extra: Iterable[str] = (), only: Iterable[str] = (), config_dir: Path = CONF
) -> list[Job]:
    """Compose and judge all jobs, in the file's order, the seeds of a row together.

    At `scale=paper` absent weights are an error; at the others their rows are told apart as "weights absent".

    Args:
        sweep: the file.
        scale: a file of conf/scale.
        seeds: of each row.
        extra: words for every row.
        only: names of rows; empty for all.

    Raises:
        ConfigError: the first wrong row, with file, row and reason, or an unknown name in `only`, or what no sweep can do in `extra`.
        MissingWeightsError: likewise, at scale=paper.
    """
    names = [row.name for row in sweep.runs]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise ConfigError(f"only={unknown[0]}: {sweep.name} has no such row{nearest(unknown[0], names)}; it has {', '.join(names)}")
    extra = list(extra)
    for word in extra:
        if word.partition("=")[0] in ("rerun", "resume"):
            raise ConfigError(f"{word}: a sweep repeats no run and names no folder of one; run the row by experiments.train")
    chosen = [row for row in sweep.runs if not only or row.name in only]
    return [_job(sweep, row, scale, seed, extra, config_dir) for row in chosen for seed in seeds]


def _job(sweep: SweepFile, row: Row, scale: str, seed: int, extra: list[str], config_dir: Path) -> Job:
    words = sweep.words(row, scale, seed, extra)
    job = Job(row, seed, words, None, "weights absent")
    place = sweep.place_of(row)
    try:
        composition = compose("train", [*words, *_logger_words(sweep, job.name, extra)], config_dir)
        check(composition.config)
    except MissingWeightsError as error:
        if scale == "paper":
            raise MissingWeightsError(f"{place}: {error}") from error
        return replace(job, absent=str(error))
    except ValueError as error:
        if any(str(error).startswith(word) for word in extra):
            raise ConfigError(f"{error} (a word for the training of every row)") from error
        raise ConfigError(f"{place}: {error}") from error
    return replace(job, words=composition.overrides, composition=composition, why_not="")


def _logger_words(sweep: SweepFile, name: str, extra: list[str]) -> list[str]:
    """What groups a table's runs in W&B, but for what the command line sets itself."""
    if "logger=wandb" not in extra:
        return []
    settings = {"logger.group": sweep.name, "logger.name": name, "logger.tags": f"[{sweep.name.replace('/', ',')}]"}
    return [f"{key}={value}" for key, value in settings.items() if not any(word.startswith(f"{key}=") for word in extra)]
