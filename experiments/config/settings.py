"""Settings of the verbs, one class each: types and bounds of a verb's own keys.

Bounds of what a constructor takes are in the constructor. Imports neither torch nor Hydra.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from experiments.config.errors import ConfigError
from experiments.config.validation import LARGEST_WHOLE, StrictModel
from tokenizer.generators.settings import FirstToken, Schedule
from tokenizer.weights import FILES

Whole = Annotated[int, Field(ge=0, le=LARGEST_WHOLE)]
Positive = Annotated[int, Field(ge=1, le=LARGEST_WHOLE)]
Count = Annotated[int, Field(ge=1, le=10**9)]  # updates, images
Few = Annotated[int, Field(ge=1, le=10_000)]  # runs at the same time, passes over the data, images of a figure
Pixels = Annotated[int, Field(ge=1, le=2**15)]
Processes = Annotated[int, Field(ge=0, le=1024)]
NotNegative = Annotated[float, Field(ge=0)]
Above = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Node = dict[str, Any]
Names = Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
Counts = Annotated[list[Positive], Field(min_length=1), BeforeValidator(lambda value: [value] if isinstance(value, int) else value)]
Text = Annotated[str, Field(min_length=1)]  # an empty path would be the working folder
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
    updates: Count
    batch_size: Count
    accumulate: Count
    image_size: Pixels
    ema_decay: float
    learning_rate: NotNegative
    workers: Processes
    log_every: Positive
    validate_every: Positive
    checkpoint_every: Positive
    keep_checkpoints: Positive
    runs_folder: Text
    init_from: Text | None
    resume: Text | None
    rerun: bool
    task: Node
    data: Node
    trainer: Node
    logger: Node | None = None
    discriminator_start: Any = None  # updates or a share of them: experiments.training.schedules
    discriminator_learning_rate: NotNegative | None = None
    num_tokens: Positive | None = None
    tokenizer: Text | None = None
    compile: bool = False
    recompute: bool = False
    samples_shown: Whole | None = None


class EvaluateSettings(GroupSettings):
    model: Text
    data: Node
    num_tokens: Counts | None
    image_size: Pixels
    batch_size: Count
    workers: Processes
    device: Device
    shown: Few
    seed: Whole
    output: Text | None

    @model_validator(mode="after")
    def _counts_differ(self) -> "EvaluateSettings":
        if self.num_tokens and len(set(self.num_tokens)) < len(self.num_tokens):
            raise ConfigError("num_tokens", self.num_tokens, expected="different numbers")
        return self


class ExportSettings(StrictModel):
    run: Text
    weights: Weights
    output: Text | None
    plugins: Names = []


class TokenizeSettings(GroupSettings):
    data: Node
    tokenizer: Text | None
    weights: Weights
    image_size: Pixels
    crops: Crops
    passes: Few
    flip: bool
    ten_crop_shares: Annotated[list[Annotated[float, Field(ge=1)]], Field(min_length=1)]
    num_tokens: Counts | None
    batch_size: Count
    workers: Processes
    device: Device
    precision: Precision
    seed: Whole
    output: Text | None
    rerun: bool
    inspect: Text | None
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

    model: Text
    data: Node | None = None
    tokenizer: Text | None
    weights: Weights
    n: Count
    classes: Any
    balanced: bool
    guidance: float
    guidance_schedule: Schedule
    guidance_start: float
    guidance_end: float
    first_token: FirstToken
    temperature: float
    top_k: int
    top_p: float
    seed: Whole
    precision: Precision
    compile: bool
    batch_size: Count
    device: Device
    shown: Few
    npz: bool
    metrics: bool
    reference: Text | None
    image_size: Pixels
    workers: Processes
    rerun: bool
    output: Text | None

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
    ceiling: Above
    samples: Annotated[int, Field(ge=2, le=10**9)]

    @model_validator(mode="after")
    def _start_is_in_range(self) -> "GuidanceSettings":
        if self.start is not None and self.start < self.floor:
            raise ConfigError("start", self.start, expected=f"at least guidance.floor={self.floor}")
        if max(self.floor, self.start or 0) > self.ceiling:
            raise ConfigError("ceiling", self.ceiling, expected=f"at least the floor and the start, {max(self.floor, self.start or 0)}")
        return self


class LinearSettings(StrictModel):
    learning_rate: Above
    batch_size: Annotated[int, Field(ge=2, le=10**9)]
    epochs: Few
    warmup_epochs: Whole
    momentum: Annotated[float, Field(ge=0, lt=1)]
    trust: Above
    views: Few

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
    image_size: Pixels
    reference: Text | None
    seed: Whole
    workers: Processes
    batch_size: Count
    device: Device
    runs_folder: Text
    crops: Crops
    passes: Few
    flip: bool
    shares: list[Annotated[float, Field(ge=1)]]
    samples: Annotated[int, Field(ge=2, le=10**9)]
    guidance: GuidanceSettings
    linear: LinearSettings


class SlurmSettings(StrictModel):
    partition: str | None
    timeout_min: Positive
    gpus_per_node: Whole
    cpus_per_task: Positive
    memory: str | None
    requeues: Few


class SweepSettings(StrictModel):
    table: Text
    scale: str
    seeds: Few
    jobs: Few
    only: Annotated[Names, Field(min_length=1)] | None
    plan: bool
    launcher: Literal["local", "slurm", "submitit_local"]
    slurm: SlurmSettings


class ReportSettings(StrictModel):
    table: Text
    scale: str
    seeds: Few
    format: Literal["terminal", "markdown", "csv", "latex"]
    output: Text | None


class WeightsSettings(StrictModel):
    action: Literal["list", "check", "fetch"]
    name: str | None

    @model_validator(mode="after")
    def _fetch_names_a_file(self) -> "WeightsSettings":
        if self.action == "fetch" and self.name not in (*FILES, "all"):
            raise ConfigError("name", self.name, expected=f"one of {', '.join(FILES)}, all")
        if self.action != "fetch" and self.name is not None:
            raise ConfigError("name", self.name, reason=f"action={self.action} is about all files", advice="leave `name` out")
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
