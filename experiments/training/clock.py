"""The base of all tasks: one clock, noise that is not saved, averaged weights, checks and reports at its updates."""

import time
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from PIL import Image
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from experiments.data.loading import ImageData
from experiments.evaluation.reconstruction import Evaluation
from experiments.runs.checkpoints import STATE
from experiments.training.ema import ExponentialMovingAverage
from experiments.training.finite import FiniteCheck
from experiments.training.fitting import require_fit
from experiments.training.optimizers import AdamW
from experiments.training.sharding import average_gradients, clip_gradients, load_full, materialize, synchronize, total_norm
from experiments.training.strategy import DataParallelStrategy

MODEL, OTHER_PARTS = 0, 1  # random streams of initial weights


def seed_torch(seed: int, stream: int) -> None:
    """Seed torch by a run's seed and the number of a random stream."""
    torch.manual_seed(int(np.random.SeedSequence(seed, spawn_key=(stream,)).generate_state(1, np.uint64)[0]))


def seed_device(seed: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of one device: `torch.manual_seed` also prepares those of devices that nothing uses."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


class ClockedTask(LightningModule):
    """A task whose clock is `updates`, the number of its model's optimizer steps. Lightning's `global_step` is not used.

    Attributes:
        finite: watches losses and gradients.
        initial_state: tensors that replace initial weights, by name; set it before training starts.
    """

    finite: FiniteCheck

    def __init__(self, optimizers: list[AdamW], average: ExponentialMovingAverage | None, updates: int, accumulate: int, seed: int) -> None:
        """
        Args:
            optimizers: settings of the optimizers, the model's first.
            average: averaged copy of the model, None for none. Both are on the meta device and get their weights in `configure_model`.
            updates: updates of the whole run.
            accumulate: number of parts of a batch.
            seed: seed of the initial weights and of all noise inside a step.

        Raises:
            ConfigError: a length that is neither a fraction nor a number of updates.
        """
        super().__init__()
        self.automatic_optimization = False
        self.optimizer_settings = optimizers
        for each in optimizers:
            each.learning_rate_at(0, updates)  # checks lengths
        self.average = average
        self.initial_state: dict[str, Tensor] | None = None
        self.idle: dict[str, str] = {}  # settings that the other settings leave without effect, with the reason
        self.total_updates = updates
        self.accumulate = accumulate
        self.seed = seed
        self.updates = self.batches = 0
        self._optimized: list[list[nn.Parameter]] = []  # of each optimizer
        self.seconds = 0.0
        self._resumed_at = time.monotonic()
        self._logged_at = (0, time.monotonic())

    def configure_model(self) -> None:
        """Allocate and initialize the model on the trainer's device, in shards if its strategy shares blocks."""
        if not next(self.trained.parameters()).is_meta:  # Lightning may call it twice
            return
        strategy = self.trainer.strategy
        self.allocate(strategy.root_device, strategy.mesh if isinstance(strategy, DataParallelStrategy) else None)

    def allocate(self, device: torch.device, mesh: DeviceMesh | None = None) -> None:
        """Allocate and initialize the model and its average, see `materialize`; all processes start from the weights of the first."""
        seed_torch(self.seed, MODEL)
        materialize(self.trained, device, mesh)
        if self.average is not None:
            materialize(self.average.module, device, mesh, initialize=False)
        if self.initial_state is not None:
            load_full(self.trained, self.initial_state, strict=False)
            self.initial_state = None
        self.to(device)
        synchronize(self)
        if self.average is not None:
            self.average.copy(self.trained)

    @property
    @abstractmethod
    def trained(self) -> nn.Module:
        """The model, which `average` follows."""

    @property
    def averaged(self) -> nn.Module:
        """The model of the averaged weights, in eval mode; the model itself where nothing is averaged."""
        return self.trained if self.average is None else self.average.module

    @abstractmethod
    def prepare(self, config: Mapping[str, Any], source: Any) -> None:
        """Check the built parts against each other and prepare evaluation, before the run folder exists.

        Args:
            config: resolved configuration of the run.
            source: its data.

        Raises:
            ConfigError: they do not fit together.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Description of the model for `environment.json`, plain containers: tokens, classes and, of a generator, its tokenizer."""

    @abstractmethod
    def summarize(self) -> None:
        """Log sizes once, at the start."""

    @abstractmethod
    def evaluate(self, data: ImageData) -> Evaluation:
        """Evaluate the averaged and the trained model on the evaluation data."""

    @abstractmethod
    def figure(self, evaluation: Evaluation) -> Image.Image:
        """The figure of an evaluation that has images."""

    def describe_change(self, earlier: int, update: int, rate: float) -> str:
        """One line about a run that continues with other lengths.

        Args:
            earlier: updates of the whole run before.
            update: updates taken.
            rate: learning rate of the last one.
        """
        places = [place for place in dict.fromkeys((update + 1, self.total_updates)) if place > update]
        rates = [f"{self.optimizer_settings[0].learning_rate_at(place - 1, self.total_updates):.3g} at update {place}" for place in places]
        return f"updates {earlier} -> {self.total_updates}: learning rate {', '.join([f'{rate:.3g} at update {update}', *rates])}"

    @property
    def log_every(self) -> int:
        """Updates between two reports."""
        return int(cast(Any, self.trainer).log_every_n_steps)

    @property
    def step_complete(self) -> bool:
        """Whether the last batch ended an update."""
        return self.batches % self.accumulate == 0

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Take no step beyond the last one, also after resuming a run that had only its ending left."""
        if self.updates < self.total_updates:
            return None
        self.trainer.should_stop = True
        return -1

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop by our own clock."""
        self.trainer.should_stop = self.trainer.should_stop or self.updates >= self.total_updates

    def seed_noise(self) -> None:
        """Noise inside a step is a function of (seed, batch, rank), so that its state is not saved."""
        state = np.random.SeedSequence([self.seed, self.batches, self.global_rank]).generate_state(1, np.uint64)
        seed_device(int(state[0]), self.device)

    def step(self, terms: dict[str, Tensor], count: int = 1) -> tuple[list[Tensor], Tensor]:
        """Clip, check and step the first `count` optimizers, and advance the clock.

        Args:
            terms: unweighted loss terms of this update, which must be finite.
            count: number of optimizers.

        Returns:
            their gradient norms before clipping, and whether the step was skipped, () above 0.
        """
        optimizers = self._optimizers()[:count]
        while len(self._optimized) < count:
            groups = optimizers[len(self._optimized)].param_groups
            self._optimized.append([p for group in groups for p in group["params"]])
        parameters = self._optimized[:count]
        for each in parameters:
            average_gradients(each)
        gradients = [[p.grad for p in each if p.grad is not None] for each in parameters]
        norms = [total_norm(each) for each in gradients]
        skip = self.finite(self.updates + 1, terms, norms)
        for optimizer, settings, grads, norm in zip(optimizers, self.optimizer_settings, gradients, norms, strict=False):
            if settings.clip is not None:
                clip_gradients(grads, settings.clip, norm)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate_at(self.updates, self.total_updates)
            optimizer.optimizer.found_inf = skip  # type: ignore[attr-defined]
            optimizer.step()
            optimizer.zero_grad()
        self.updates += 1
        if self.average is not None:
            self.average.update(self.trained, self.updates)
        return norms, skip

    def logs_at(self, update: int) -> bool:
        """Whether update number `update` is reported."""
        return update % self.log_every == 0 or update == self.total_updates

    def report_step(self, values: dict[str, float], batch_size: int) -> None:
        """Report an update, with learning rate and speed.

        Args:
            values: by log key.
            batch_size: images of one batch of this process.
        """
        values["train/learning_rate"] = self._optimizers()[0].param_groups[0]["lr"]
        updates, then = self._logged_at
        now = time.monotonic()
        images = (self.updates - updates) * self.accumulate * batch_size * self.trainer.world_size
        values["perf/images_per_second"] = images / (now - then)
        self._logged_at = (self.updates, now)
        self.report(values)

    def report(self, values: dict[str, float]) -> None:
        """Log values to every logger, on our own clock."""
        for logger in self.trainer.loggers:
            logger.log_metrics(values, step=self.updates)

    def on_train_start(self) -> None:
        """Time and speed count from here."""
        self._resumed_at = time.monotonic()
        self.measure_speed_from_here()

    def measure_speed_from_here(self) -> None:
        """Exclude the time until now, such as that of a validation, from the speed."""
        self._logged_at = (self.updates, time.monotonic())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the clock and the averaged weights."""
        seconds = self.seconds + time.monotonic() - self._resumed_at
        checkpoint[STATE] = {
            "updates": self.updates,
            "batches": self.batches,
            "seconds": seconds,
            "average": None if self.average is None else self.average.averaged_state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the clock, the averaged weights and the position in the data; see `require_fit` for what is refused."""
        optimizers = self.configure_optimizers()
        average = None if self.average is None else self.average.module
        require_fit(checkpoint, self, average, optimizers if isinstance(optimizers, list) else [optimizers])
        state = checkpoint[STATE]
        self.updates, self.batches, self.seconds = state["updates"], state["batches"], state["seconds"]
        if self.average is not None:
            self.average.load_averaged_state(state["average"])
        cast(Any, self.trainer).datamodule.start_batch = self.batches

    def _optimizers(self) -> list[LightningOptimizer]:
        optimizers = self.optimizers()
        return cast(list[LightningOptimizer], optimizers if isinstance(optimizers, list) else [optimizers])
