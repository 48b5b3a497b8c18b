"""Settings that differ by scale, and those of the evaluations and probes of a sweep file. Imports neither torch nor Hydra."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, ValidationInfo, model_validator

from experiments.config.errors import ConfigError, nearest
from experiments.config.validation import StrictModel
from experiments.tables.fields import Settings, check_settings

SCALES = ("paper", "gpu", "mini", "smoke")
Scale = Literal["paper", "gpu", "mini", "smoke"]
IMAGE_SIZE_TIMES = "image_size_times"  # of an evaluation: image size as a multiple of the training's
OF_SWEEP = ("model", "tokenizer", "output", "runs_folder", "seed")  # keys of the verbs that depend on the row's run


class Scaled(StrictModel):
    """Settings that apply at one scale only."""

    paper: Settings = {}
    gpu: Settings = {}
    mini: Settings = {}
    smoke: Settings = {}

    def budget(self, scale: str) -> dict[str, Any]:
        """Settings at a scale."""
        return dict(getattr(self, scale))


class Probe(Scaled):
    """Settings of experiments.probe, `protocol` among them: dotted keys for every scale, and those of single scales, which come after."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        everywhere = self.model_extra or {}
        for key, value in everywhere.items():
            if isinstance(value, dict):
                raise ConfigError(key, value, expected=f"settings of one of {', '.join(SCALES)}", nearest=nearest(key, SCALES))
        check_settings(everywhere)
        for place, settings in (("", everywhere), *((f"{scale}.", self.budget(scale)) for scale in SCALES)):
            _check_own(settings, place)
            known = (info.context or {}).get("protocols")
            if known is not None and "protocol" in settings and settings["protocol"] not in known:
                name = settings["protocol"]
                raise ConfigError(f"{place}protocol", name, expected="a file of conf/protocol", nearest=nearest(str(name), known))
        return self

    def settings(self, scale: str) -> dict[str, Any]:
        """All settings at a scale.

        Raises:
            ConfigError: no protocol among them.
        """
        settings = {**(self.model_extra or {}), **self.budget(scale)}
        if "protocol" not in settings:
            have = [name for name in SCALES if "protocol" in self.budget(name)]
            raise ConfigError("scale", scale, reason="the probe has no protocol at this scale", expected=f"one of {', '.join(have)}")
        return settings


def _check_own(settings: dict[str, Any], place: str = "") -> None:
    for key in OF_SWEEP:
        if key in settings:
            raise ConfigError(f"{place}{key}", settings[key], reason="the sweep sets this itself", advice=f"leave `{key}` out")


def _check_evaluation(settings: dict[str, Any]) -> dict[str, Any]:
    _check_own(settings)
    times = settings.get(IMAGE_SIZE_TIMES, 1)
    if not isinstance(times, int) or isinstance(times, bool) or times < 1:
        raise ConfigError(IMAGE_SIZE_TIMES, times, expected="a whole number of at least 1")
    return settings


Evaluation = Annotated[Settings, AfterValidator(_check_evaluation)]  # settings of experiments.evaluate, or `image_size_times`
