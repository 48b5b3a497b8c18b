"""Settings of the verbs, one class each: types and bounds of a verb's own keys.

Bounds of what a constructor takes are in the constructor. Imports neither torch nor Hydra.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from experiments.config.errors import ConfigError
from experiments.config.validation import StrictModel
from tokenizer.generators.settings import FirstToken, Schedule
from tokenizer.weights import FILES

Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Above = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Node = dict[str, Any]
Names = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
Counts = Annotated[list[Positive], Field(min_length=1), BeforeValidator(lambda value: [value] if isinstance(value, int) else value)]
Device = Literal["auto", "cpu", "cuda"]
Weights = Literal["ema", "raw"]
Precision = Literal["fp32", "bf16"]
Crops = Literal["as_data", "ten_crop"]


class GroupSettings(StrictModel):
    """Settings of a verb whose configuration has groups, whose keys are not listed here."""

    model_config = ConfigDict(extra="ignore")
    plugins: Names = []  # packages besides our own that a `_target_` may name


class TrainSettings(GroupSettings):
    """Settings of experiments.train. Those of one task are None with the other."""

    seed: Whole
    updates: Positive
    batch_size: Positive
    accumulate: Positive
    image_size: Positive
    ema_decay: float
    learning_rate: NotNegative
    workers: Whole
    log_every: Positive
    validate_every: Positive
    checkpoint_every: Positive
    keep_checkpoints: Positive
    runs_folder: str
    init_from: str | None
    resume: str | None
    rerun: bool
    task: Node
    data: Node
    trainer: Node
    logger: Node | None = None
    discriminator_start: Any = None  # updates or a share of them: experiments.training.schedules
    discriminator_learning_rate: NotNegative | None = None
    num_tokens: Positive | None = None
    tokenizer: str | None = None
    compile: bool = False
    recompute: bool = False
    samples_shown: Whole | None = None


class EvaluateSettings(GroupSettings):
    model: str
    data: Node
    num_tokens: Counts | None
    image_size: Positive
    batch_size: Positive
    workers: Whole
    device: Device
    shown: Positive
    seed: Whole
    output: str | None

    @model_validator(mode="after")
    def _counts_differ(self) -> "EvaluateSettings":
        if self.num_tokens and len(set(self.num_tokens)) < len(self.num_tokens):
            raise ConfigError("num_tokens", self.num_tokens, expected="different numbers")
        return self


class ExportSettings(StrictModel):
    run: str
    weights: Weights
    output: str | None
    plugins: Names = []


class TokenizeSettings(GroupSettings):
    data: Node
    tokenizer: str | None
    weights: Weights
    image_size: Positive
    crops: Crops
    passes: Positive
    flip: bool
    ten_crop_shares: Annotated[list[Annotated[float, Field(ge=1)]], Field(min_length=1)]
    num_tokens: Counts | None
    batch_size: Positive
    workers: Whole
    device: Device
    precision: Precision
    seed: Whole
    output: str | None
    rerun: bool
    inspect: str | None
    sample: Whole

    @model_validator(mode="after")
    def _views_are_of_one_kind(self) -> "TokenizeSettings":
        if self.crops == "ten_crop" and (self.flip or self.passes != 1):
            reason = "it has the mirror images, and one pass is all of it"
            raise ConfigError("crops", self.crops, reason=reason, advice="leave `flip` and `passes` out")
        if self.inspect is None and self.tokenizer is None:
            raise ConfigError("tokenizer", None, expected="a run folder or an exported tokenizer, or inspect=FILE")
        return self


class GenerateSettings(GroupSettings):
    """Settings of experiments.generate. The bounds of sampling are in `tokenizer.generators.settings`."""

    model: str
    data: Node | None = None
    tokenizer: str | None
    weights: Weights
    n: Positive
    classes: Any
    balanced: bool
    guidance: float
    guidance_schedule: Schedule
    guidance_start: float
    first_token: FirstToken
    temperature: float
    top_k: int
    top_p: float
    seed: Whole
    precision: Precision
    compile: bool
    batch_size: Positive
    device: Device
    shown: Positive
    npz: bool
    metrics: bool
    reference: str | None
    image_size: Positive
    workers: Whole
    rerun: bool
    output: str | None

    @model_validator(mode="after")
    def _references_are_of_metrics(self) -> "GenerateSettings":
        for key in ("data", "reference"):
            if getattr(self, key) and not self.metrics:
                raise ConfigError(key, reason="samples are compared with it", advice=f"set metrics=true, or leave `{key}` out")
        return self


class GuidanceSettings(StrictModel):
    """The search of a probe for the best scale of guidance."""

    schedule: Schedule
    unguided: Share
    start: float | None
    step: Above
    floor: NotNegative
    samples: Annotated[int, Field(ge=2)]

    @model_validator(mode="after")
    def _start_is_above_the_floor(self) -> "GuidanceSettings":
        if self.start is not None and self.start < self.floor:
            raise ConfigError("start", self.start, expected=f"at least guidance.floor={self.floor}")
        return self


class LinearSettings(StrictModel):
    learning_rate: Above
    batch_size: Annotated[int, Field(ge=2)]
    epochs: Positive
    warmup_epochs: Whole
    momentum: Annotated[float, Field(ge=0, lt=1)]
    trust: Above
    views: Positive

    @model_validator(mode="after")
    def _warmup_fits(self) -> "LinearSettings":
        if self.warmup_epochs > self.epochs:
            raise ConfigError("warmup_epochs", self.warmup_epochs, expected=f"at most linear.epochs={self.epochs}")
        return self


class ProbingSettings(GroupSettings):
    """Settings of experiments.probe, with those of its protocol."""

    tokenizer: Names
    data: Node | None = None
    trainer: Node
    training: Node
    image_size: Positive
    reference: str | None
    seed: Whole
    workers: Whole
    batch_size: Positive
    device: Device
    runs_folder: str
    crops: Crops
    passes: Positive
    flip: bool
    shares: list[Annotated[float, Field(ge=1)]]
    samples: Annotated[int, Field(ge=2)]
    guidance: GuidanceSettings
    linear: LinearSettings


class SlurmSettings(StrictModel):
    partition: str | None
    timeout_min: Positive
    gpus_per_node: Positive
    cpus_per_task: Positive
    memory: str | None
    requeues: Positive


class SweepSettings(StrictModel):
    table: str
    scale: str
    seeds: Positive
    jobs: Positive
    only: Annotated[Names, Field(min_length=1)] | None
    plan: bool
    launcher: Literal["local", "slurm", "submitit_local"]
    slurm: SlurmSettings


class ReportSettings(StrictModel):
    table: str
    scale: str
    seeds: Positive
    format: Literal["terminal", "markdown", "csv", "latex"]
    output: str | None


class WeightsSettings(StrictModel):
    action: Literal["list", "check", "fetch"]
    name: str | None

    @model_validator(mode="after")
    def _fetch_names_a_file(self) -> "WeightsSettings":
        if self.action == "fetch" and self.name not in (*FILES, "all"):
            raise ConfigError("name", self.name, expected=f"one of {', '.join(FILES)}, all")
        return self


SETTINGS: dict[str, type[StrictModel]] = {
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
    "export": ExportSettings,
    "tokenize": TokenizeSettings,
    "generate": GenerateSettings,
    "probe": ProbingSettings,
    "sweep": SweepSettings,
    "report": ReportSettings,
    "weights": WeightsSettings,
}
