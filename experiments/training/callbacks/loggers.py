"""Loggers: metrics.csv always, Weights & Biases or TensorBoard by choice. No logger stops a run."""

import csv
import io
import logging
import netrc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from experiments.config.command_line import is_first_process
from experiments.evaluation.metrics.codebook import perplexity, usage
from experiments.evaluation.reconstruction import Evaluation
from experiments.runs.folder import RunFolder
from tokenizer.files import naming, write_text

log = logging.getLogger(__name__)

CLOCK = "updates"
HISTOGRAM_BINS = 64
START_SECONDS, END_SECONDS = 60.0, 300.0  # longest waits for W&B without WANDB_INIT_TIMEOUT and WANDB_FINISH_TIMEOUT


class MetricsTable(Logger):
    """metrics.csv: one row for each report, one column for each key, in the order of appearance."""

    def __init__(self, file: Path, resumed_at: int, validates: bool = False) -> None:
        """
        Args:
            file: the table, of which rows after update `resumed_at` are of an interrupted run: they are written again.
            resumed_at: the update after which the run continues.
            validates: whether it validates first: rows of a validation at `resumed_at` are written again too.
        """
        super().__init__()
        self.file = file
        self.columns = [CLOCK]
        rows: list[dict[str, str]] = []
        if file.is_file():
            with open(file, newline="", errors="replace") as opened:
                text = opened.read()
            reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
            self.columns = list(reader.fieldnames or [CLOCK])
            rows = [row for row in reader if _is_whole(row) and int(row[CLOCK]) <= resumed_at - (validates and _is_validation(row))]
        if is_first_process():
            self._rewrite(rows)

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "metrics"

    @property
    def version(self) -> str:
        """Unused."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row; new keys widen the table."""
        new = [key for key in metrics if key not in self.columns]
        if new:
            with open(self.file, newline="") as opened:
                rows = list(csv.DictReader(opened))
            self.columns += new
            self._rewrite(rows)
        with naming(self.file), open(self.file, "a", newline="") as opened:
            csv.DictWriter(opened, self.columns).writerow({CLOCK: step, **metrics})

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """config.yaml holds them."""

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.file, text.getvalue())


def _is_whole(row: dict[str, str]) -> bool:
    """Whether every column is a number or empty: a killed process may leave part of a row."""
    try:
        int(row[CLOCK])
        for value in row.values():
            float(value if value != "" else 0)  # None, for a column that is missing, is refused
    except (TypeError, ValueError):
        return False
    return True


def _is_validation(row: dict[str, str]) -> bool:
    return any(value for key, value in row.items() if key.startswith("val"))


class Tolerant(Logger):
    """Passes everything to another logger. Its failures stop nothing: the first is one warning, the others are silent."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self.logger = logger
        self.failed = False

    @property
    def name(self) -> str | None:
        """That of the other logger."""
        return self.logger.name

    @property
    def version(self) -> int | str | None:
        """That of the other logger."""
        return self.logger.version

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log values by key."""
        self._attempt(self.logger.log_metrics, metrics, step)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """config.yaml holds them."""

    @rank_zero_only
    def log_evaluation(self, evaluation: Evaluation, figure: Path | None, step: int) -> None:
        """Log images and histograms, if the other logger can."""
        if isinstance(self.logger, WandbRun):
            self._attempt(self.logger.log_evaluation, evaluation, figure, step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the other logger's run."""
        self._attempt(self.logger.finalize, status)

    def _attempt(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:
            if not self.failed:
                log.warning("%s does not log (%s); metrics.csv is written all the same", type(self.logger).__name__, _first_line(error))
            self.failed = True


class WandbRun(WandbLogger):
    """A W&B run with evaluations: their figure, the usage of each group's codes and a histogram of the codes."""

    def log_evaluation(self, evaluation: Evaluation, figure: Path | None, step: int) -> None:
        """Log one evaluation, made after `step` updates, with the file of its comparison of images or of its samples."""
        import wandb

        name = "val/samples" if len(evaluation.images) > len(evaluation.reconstructions) else "val/comparison"
        values: dict[str, Any] = {} if figure is None else {name: wandb.Image(str(figure))}
        if evaluation.counts is not None:
            counts = evaluation.counts.cpu()
            for group, (used, effective) in enumerate(zip(usage(counts).tolist(), perplexity(counts).tolist(), strict=True)):
                values |= {f"val/codebook_usage_group/{group:02d}": used, f"val/perplexity_group/{group:02d}": effective}
            values["val/codebook_counts"] = wandb.Histogram(np_histogram=np.histogram(counts.sum(0).numpy(), bins=HISTOGRAM_BINS))
        self.experiment.log({**values, "trainer/global_step": step})

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run, so that the next one of this process is a new one."""
        super().finalize(status)
        if self._experiment is not None:
            if not self._offline:
                log.info(
                    "uploading the rest to W&B, for at most %g seconds; `wandb sync` does so later",
                    self._experiment.settings.finish_timeout,
                )
            self._experiment.finish(exit_code=0 if status == "success" else 1)


class WeightsAndBiases:
    """Settings of a W&B logger."""

    def __init__(self, project: str, group: str | None, name: str | None, tags: list[str]) -> None:
        """
        Args:
            project: project of the run.
            group: group of the run, None for none.
            name: name of the run, None for that of the run folder.
            tags: tags of the run.
        """
        self.project = project
        self.group = group
        self.name = name
        self.tags = tags

    def build(self, folder: RunFolder, name: str, config: dict[str, Any]) -> Logger | None:
        """A logger whose run id is the run's identity, so that a resumed run continues there.

        Online only with an API key; otherwise offline in the run folder, with a warning. None, with a warning, if it cannot start.
        """
        offline = os.environ.get("WANDB_MODE") == "offline"
        if not offline and not _has_key():
            offline = True
            log.warning("no W&B API key found: logging offline to %s/wandb; `wandb sync` uploads it later", folder.path)
        settings: dict[str, Any] = {"id": folder.path.name, "group": self.group, "tags": self.tags, "resume": "allow", "config": config}
        try:
            settings["settings"] = _waiting_times()
            if not offline:
                log.info("connecting to W&B, which takes at most %g seconds", settings["settings"].init_timeout)
            logger = WandbRun(name=self.name or name, project=self.project, save_dir=folder.path, offline=offline, **settings)
            _ = logger.experiment
        except Exception as error:
            log.warning("W&B did not start (%s); metrics.csv is written all the same", _first_line(error))
            return None
        return Tolerant(logger)


class TensorBoard:
    """Settings of a TensorBoard logger: none."""

    def build(self, folder: RunFolder, name: str, config: dict[str, Any]) -> Logger | None:
        """A logger that writes to `tensorboard/` in the run folder; None, with a warning, if the package is absent."""
        try:
            return Tolerant(TensorBoardLogger(folder.path, name="tensorboard", version=""))
        except ModuleNotFoundError:
            log.warning("TensorBoard is not installed (`pip install tensorboard`); metrics.csv is written all the same")
            return None


def _first_line(error: Exception) -> str:
    """First line of its message, or its class if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _waiting_times() -> Any:
    """W&B's settings of how long it waits, which without a network are its own 90 seconds at the start and no bound at the end."""
    import wandb

    start, end = (
        float(os.environ.get(name, seconds))
        for name, seconds in (("WANDB_INIT_TIMEOUT", START_SECONDS), ("WANDB_FINISH_TIMEOUT", END_SECONDS))
    )
    return wandb.Settings(init_timeout=start, finish_timeout=end)


def _has_key() -> bool:
    """Whether W&B has an API key without a prompt."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
