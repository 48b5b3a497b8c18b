"""Training a tokenizer: two optimizers, one clock, averaged weights."""

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from experiments.data.transforms import normalize
from experiments.ema import ExponentialMovingAverage
from experiments.optimizers import AdamW
from experiments.schedules import Schedule, in_updates
from experiments.tasks.balance import adaptive_weight, image_leaf, last_layer_lengths, slope
from experiments.tasks.finite import FiniteCheck
from experiments.tasks.objective import TERMS, Objective
from experiments.tasks.reading import ADAPTIVE_WEIGHT, GRADIENT_RATIO, read_step
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import Discriminator, ImageBatch

log = logging.getLogger(__name__)

STATE = "tessera"
"""Key of our own state in a checkpoint."""


class TokenizerTask(LightningModule):
    """An image tokenizer, its discriminator and its averaged copy.

    The clock is `updates`, the number of generator steps taken. Lightning's `global_step` counts both optimizers and is not used.
    """

    tokenizer: ImageTokenizer
    discriminator: Discriminator | None
    objective: Objective
    average: ExponentialMovingAverage
    _parts: list[dict[str, Tensor]]
    _health: dict[str, Tensor]

    def __init__(
        self,
        tokenizer: Callable[[], ImageTokenizer],
        discriminator: Callable[[], Discriminator] | None,
        objective: Callable[[], Objective],
        optimizer: AdamW,
        schedule: Schedule,
        discriminator_optimizer: AdamW,
        discriminator_schedule: Schedule,
        updates: int,
        accumulate: int,
        discriminator_start: float,
        ema_decay: float,
        seed: int,
    ) -> None:
        """Keep the factories; nothing is built before `configure_model`.

        Args:
            tokenizer: builds it; likewise `objective`, the losses and weights.
            discriminator: builds it, None for none.
            optimizer: of the tokenizer.
            schedule: of its learning rate.
            discriminator_optimizer: of the discriminator.
            discriminator_schedule: of its learning rate.
            updates: generator steps of the whole run.
            accumulate: parts that a batch is computed in; an adaptive adversarial weight is that of each part.
            discriminator_start: from which update on the discriminator plays; a fraction, or a whole number of updates.
            ema_decay: of the averaged weights.
            seed: of all noise inside a step.

        Raises:
            ValueError: a length that is neither a fraction nor a number of updates.
        """
        super().__init__()
        self.automatic_optimization = False
        self.factories = (tokenizer, discriminator, objective)
        self.optimizer_settings = [optimizer, discriminator_optimizer]
        self.schedules = [schedule, discriminator_schedule]
        for each in self.schedules:
            each.factor(0, updates)  # judges its lengths
        self.total_updates = updates
        self.accumulate = accumulate
        self.discriminator_from = in_updates(discriminator_start, updates, "discriminator_start")
        self.ema_decay = ema_decay
        self.seed = seed
        self.updates = self.batches = 0
        self.seconds = 0.0
        self._parts, self._health = [], {}
        self._resumed_at = time.monotonic()
        self._logged_at = (0, time.monotonic())

    def configure_model(self) -> None:
        """Build the parts; Lightning may call it twice."""
        if hasattr(self, "tokenizer"):
            return
        tokenizer, discriminator, objective = self.factories
        self.tokenizer = tokenizer()
        self.discriminator = discriminator() if discriminator else None
        self.objective = objective()
        copy = tokenizer()
        copy.load_state_dict(self.tokenizer.state_dict())
        self.average = ExponentialMovingAverage(copy, self.ema_decay)
        self.finite = FiniteCheck(TERMS)
        if self.discriminator is not None:
            self.objective.require_game()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One optimizer for the tokenizer and, if there is a discriminator, one for it."""
        parts = [self.tokenizer] if self.discriminator is None else [self.tokenizer, self.discriminator]
        return [settings.build(part.parameters()) for part, settings in zip(parts, self.optimizer_settings, strict=False)]

    def training_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Both players' gradients from one forward pass; every `accumulate` batches one step of each."""
        self._seed_noise()
        self.finite.watch(self.updates + 1, batch.keys)
        adversarial = self.discriminator is not None and self.updates >= self.discriminator_from
        images = normalize(batch.images)
        self._health = {}
        terms, reconstruction = self._generator_backward(images, adversarial)
        if adversarial:
            terms |= self._discriminator_backward(images, reconstruction.detach())
        self.batches += 1
        self._parts.append(terms | self._health)
        if not self.step_complete:
            return
        means = {name: torch.stack([part[name] for part in self._parts]).mean() for name in self._parts[-1]}
        terms, health = {name: means[name] for name in terms}, {name: means[name] for name in self._health}
        self._parts = []
        norms = self._step(terms, players=2 if adversarial else 1)
        self.updates += 1
        self.average.update(self.tokenizer, self.updates)
        if self._logs_at(self.updates):
            self._log(terms, norms, health, len(batch.keys))

    @property
    def average_tokenizer(self) -> ImageTokenizer:
        """The tokenizer of the averaged weights, in eval mode."""
        return cast(ImageTokenizer, self.average.module)

    @property
    def log_every(self) -> int:
        """Updates between two reports."""
        return int(cast(Any, self.trainer).log_every_n_steps)

    @property
    def step_complete(self) -> bool:
        """Whether the last batch ended an update."""
        return self.batches % self.accumulate == 0

    def on_train_batch_start(self, batch: ImageBatch, batch_idx: int) -> int | None:
        """Take no step beyond the last one, also after resuming a run that had only its ending left."""
        if self.updates < self.total_updates:
            return None
        self.trainer.should_stop = True
        return -1

    def on_train_batch_end(self, outputs: Any, batch: ImageBatch, batch_idx: int) -> None:
        """Stop by our own clock."""
        self.trainer.should_stop = self.trainer.should_stop or self.updates >= self.total_updates

    def _generator_backward(self, images: Tensor, adversarial: bool) -> tuple[dict[str, Tensor], Tensor]:
        """Gradients of the tokenizer: the image's losses meet at the image, and one backward pass takes their sum down from there."""
        output = self.tokenizer(images)
        reconstruction = output.decoder.reconstruction
        leaf = image_leaf(reconstruction)
        terms = self.objective.image_terms(leaf, images)
        combined = slope(self.objective.total(terms), leaf)
        if adversarial and self.objective.plays_against_discriminator:
            game, added = self._adversarial_slope(leaf, reconstruction, combined)
            terms |= game
            combined = combined + added
        inner = self.objective.quantizer_terms(output.quantizer, self.tokenizer.quantizer)
        self.manual_backward(((reconstruction * combined).sum() + self.objective.total(inner)) / self.accumulate)
        return {name: term.detach() for name, term in (terms | inner).items()}, reconstruction

    def _adversarial_slope(self, leaf: Tensor, reconstruction: Tensor, wanted: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The adversarial term and its weighted gradient at the image; the discriminator is frozen meanwhile, so it gets none.

        Args:
            leaf: the reconstruction, cut off.
            reconstruction: with its graph.
            wanted: the weighted gradient of the image's other losses.
        """
        discriminator = cast(Discriminator, self.discriminator)
        discriminator.requires_grad_(False)
        terms = self.objective.generator_terms(discriminator(leaf))
        added = slope(self.objective.total(terms), leaf)
        discriminator.requires_grad_(True)
        limit = self.objective.adaptive_limit
        if limit is not None or self._logs_at(self.updates + 1):
            weight = cast(Tensor, self.tokenizer.decoder.last_layer.weight)
            length, other = last_layer_lengths(reconstruction, weight, [wanted, added])
            if limit is not None:
                factor = adaptive_weight(length, other / self.objective.weights["adversarial"], limit)
                added, other = factor * added, factor * other
                self._health[ADAPTIVE_WEIGHT] = factor
            self._health[GRADIENT_RATIO] = other / length
        return terms, added

    def _discriminator_backward(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Gradients of the discriminator on the same batch."""
        discriminator = cast(Discriminator, self.discriminator)
        punished = real.detach().requires_grad_() if self.objective.penalty_is_due(self.updates + 1) else None
        # Only the plain attention can be differentiated twice.
        with nullcontext() if punished is None else sdpa_kernel(SDPBackend.MATH):
            real_logits = discriminator(real if punished is None else punished)
        fake_logits = discriminator(fake)
        terms = self.objective.discriminator_terms(real_logits, fake_logits, punished)
        self.manual_backward(self.objective.total(terms) / self.accumulate)
        self._health |= {"train/logits/real": real_logits.detach().mean(), "train/logits/fake": fake_logits.detach().mean()}
        return {name: term.detach() for name, term in terms.items()}

    def _step(self, terms: dict[str, Tensor], players: int) -> list[Tensor]:
        """Clip, check and step the first `players` optimizers; returns their gradient norms before clipping."""
        optimizers = self._optimizers()[:players]
        gradients = [[p.grad for group in o.param_groups for p in group["params"] if p.grad is not None] for o in optimizers]
        norms = [torch.nn.utils.get_total_norm(gradient) for gradient in gradients]
        skip = self.finite(self.updates + 1, terms, norms)
        self.objective.keep(refused=skip)
        for optimizer, settings, schedule, norm in zip(optimizers, self.optimizer_settings, self.schedules, norms, strict=False):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            if settings.clip is not None:
                torch.nn.utils.clip_grads_with_norm_(parameters, settings.clip, norm)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * schedule.factor(self.updates, self.total_updates)
            optimizer.optimizer.found_inf = skip  # type: ignore[attr-defined]
            optimizer.step()
            optimizer.zero_grad()
        return norms

    def _optimizers(self) -> list[LightningOptimizer]:
        found = self.optimizers()
        return cast(list[LightningOptimizer], found if isinstance(found, list) else [found])

    def _logs_at(self, update: int) -> bool:
        return update % self.log_every == 0 or update == self.total_updates

    def _seed_noise(self) -> None:
        """Noise inside a step is a function of (seed, batch, rank), so that nothing about it has to be saved."""
        words = np.random.SeedSequence([self.seed, self.batches, self.global_rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0]))

    def _log(self, terms: dict[str, Tensor], norms: list[Tensor], health: dict[str, Tensor], batch_size: int) -> None:
        """The one read of the device: every `log_every` updates."""
        self.finite.verify()
        values = read_step(self.objective, terms, norms, health)
        values["train/learning_rate"] = self._optimizers()[0].param_groups[0]["lr"]
        updates, then = self._logged_at
        now = time.monotonic()
        images = (self.updates - updates) * self.accumulate * batch_size * self.trainer.world_size
        values["perf/images_per_second"] = images / (now - then)
        self._logged_at = (self.updates, now)
        self.report(values)

    def report(self, values: dict[str, float]) -> None:
        """Hand values to every logger, on our own clock."""
        for logger in self.trainer.loggers:
            logger.log_metrics(values, step=self.updates)

    def on_train_start(self) -> None:
        """Time and speed count from here."""
        self._resumed_at = time.monotonic()
        self.measure_speed_from_here()

    def measure_speed_from_here(self) -> None:
        """Leave what was done just now, such as a validation, out of the speed."""
        self._logged_at = (self.updates, time.monotonic())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the clock and the averaged weights."""
        seconds = self.seconds + time.monotonic() - self._resumed_at
        checkpoint[STATE] = {
            "updates": self.updates,
            "batches": self.batches,
            "seconds": seconds,
            "average": self.average.averaged_state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back the clock and the averaged weights, and tell the data where to go on."""
        state = checkpoint[STATE]
        self.updates, self.batches, self.seconds = state["updates"], state["batches"], state["seconds"]
        self.average.load_averaged_state(state["average"])
        cast(Any, self.trainer).datamodule.start_batch = self.batches
