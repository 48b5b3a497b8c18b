"""What is measured of a row's run beside its training: evaluations and probes as overrides of their verbs. Imports no torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from experiments.config.compose import Composition, compose
from experiments.config.errors import ConfigError, spelled
from experiments.config.overrides import for_children, last_of_each
from experiments.evaluation.protocol import result_folder
from experiments.tables.scaled import IMAGE_SIZE_TIMES
from experiments.tables.sweep_file import COMPLETED, Row, SweepFile, probe_prefix, probe_title
from tokenizer.files import short_hash

MACHINE = ("trainer=", "trainer.", "runs_folder=")  # overrides of all rows that are for the trainings of a probe too


@dataclass(frozen=True)
class Measurement:
    """An evaluation or a probe of a row's run. Those of several rows with one run and one folder are the same.

    Attributes:
        verb: the command.
        name: its name in the sweep file.
        overrides: of the verb, without the folders of the run and of the result.
        folder: of its result, below `evaluations/` of the run folder.
        composition: configuration of a probe; None for an evaluation.
    """

    verb: Literal["evaluate", "probe"]
    name: str
    overrides: list[str]
    folder: str
    composition: Composition | None = None

    @property
    def title(self) -> str:
        """For messages, such as `evaluation twice`."""
        return probe_title(self.name) if self.verb == "probe" else f"evaluation {self.name}"

    @property
    def prefix(self) -> str:
        """Prefix of its numbers in the table."""
        return probe_prefix(self.name) if self.verb == "probe" else "val" if self.name == COMPLETED else f"val_{self.name}"

    @property
    def own_prefix(self) -> str:
        """Prefix of the same numbers in its result."""
        return "probe" if self.verb == "probe" else "val"


def measurements(sweep: SweepFile, row: Row, scale: str, composition: Composition, extra: Iterable[str]) -> list[Measurement]:
    """The evaluations of a row, then its probes.

    Args:
        sweep: table.
        row: row of it.
        scale: file of conf/scale.
        composition: configuration of the row's training.
        extra: overrides of the training of every row.

    Raises:
        ConfigError: a probe has no valid configuration; names it.
    """
    evaluations = [evaluation(name, settings, composition) for name, settings in sweep.evaluations.items()]
    return evaluations + [_probe(name, settings, composition, extra) for name, settings in sweep.probe_settings(row, scale).items()]


def evaluation(name: str, settings: Mapping[str, Any], composition: Composition) -> Measurement:
    """An evaluation of the held-out images of a training's data.

    Args:
        name: its name in the sweep file, or `COMPLETED`.
        settings: of experiments.evaluate, or `image_size_times`.
        composition: configuration of the training.
    """
    config = composition.config
    keys = {"image_size": settings.get(IMAGE_SIZE_TIMES, 1) * config["image_size"], "data": composition.choices["data"]}
    keys |= {"evaluated": "held_out"} if "evaluated" in config["data"] else {}
    keys |= {"seed": config["seed"], "workers": config["workers"], **_device(config)}
    keys |= {key: value for key, value in settings.items() if key != IMAGE_SIZE_TIMES}
    of_data = [override for override in composition.overrides if override.startswith("data.")]
    overrides = last_of_each([*for_children(composition.overrides), *of_data, *_overrides(keys)])
    return Measurement("evaluate", name, overrides, COMPLETED if name == COMPLETED else f"evaluation-{short_hash(dict(settings))}")


def _probe(name: str, settings: Mapping[str, Any], composition: Composition, extra: Iterable[str]) -> Measurement:
    config = composition.config
    keys = {"image_size": config["image_size"], "seed": config["seed"], "workers": config["workers"], **_device(config), **settings}
    machine = [override for override in extra if override.startswith(MACHINE)]
    overrides = last_of_each([*for_children(composition.overrides), *machine, *_overrides(keys)])
    try:
        probe = compose("probe", ["tokenizer=run", *overrides], composition.draft.folders.main)
    except ConfigError as error:
        raise error.at(probe_title(name)) from error
    return Measurement("probe", name, overrides, result_folder(probe.config, str(probe.choices["protocol"])), probe)


def _device(config: Mapping[str, Any]) -> dict[str, str]:
    return {"device": "cpu"} if config["trainer"]["accelerator"] == "cpu" else {}


def _overrides(settings: Mapping[str, Any]) -> list[str]:
    return [f"{key}={spelled(value)}" for key, value in settings.items()]
