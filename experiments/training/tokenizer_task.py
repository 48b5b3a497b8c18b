"""Training a tokenizer: two optimizers, one clock, averaged weights."""

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from experiments.data.loading import ImageData
from experiments.data.source import ImageSource
from experiments.data.transforms import normalize
from experiments.evaluation.cards import describe_losses
from experiments.evaluation.figures import comparison
from experiments.evaluation.reconstruction import Evaluation, evaluate
from experiments.evaluation.subjects import TokenizerSubject, make_subject, require_num_tokens
from experiments.training.balance import adaptive_weight, detached_image, image_grad, last_layer_norms
from experiments.training.clock import ClockedTask
from experiments.training.ema import ExponentialMovingAverage
from experiments.training.finite import FiniteCheck
from experiments.training.objective import Objective
from experiments.training.optimizers import AdamW
from experiments.training.schedules import in_updates
from experiments.training.step_log import ADAPTIVE_WEIGHT, GRADIENT_RATIO, step_values
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import Discriminator, ImageBatch, TokenizerOutput, TrainingPass

log = logging.getLogger(__name__)

# Settings that a training without a discriminator does not read.
OF_DISCRIMINATOR = (
    "loss.adaptive_limit",
    "discriminator_start",
    "discriminator_learning_rate",
    "discriminator_input_size",
    "discriminator_optimizer",
    "discriminator_schedule",
    "optimizer@discriminator_optimizer",
    "schedule@discriminator_schedule",
)


class TokenizerTask(ClockedTask):
    """An image tokenizer, its discriminator and its averaged copy. The clock counts steps of the tokenizer."""

    average: ExponentialMovingAverage
    source: ImageSource
    subjects: list[TokenizerSubject]
    _parts: list[dict[str, Tensor]]
    _diagnostics: dict[str, Tensor]

    def __init__(
        self,
        tokenizer: ImageTokenizer,
        discriminator: Discriminator | None,
        objective: Objective,
        optimizer: AdamW,
        discriminator_optimizer: AdamW,
        updates: int,
        accumulate: int,
        discriminator_start: float,
        ema_decay: float,
        seed: int,
        num_tokens: int | None,
    ) -> None:
        """
        Args:
            tokenizer: tokenizer on the meta device; it gets its weights in `configure_model`.
            discriminator: discriminator, None for none.
            objective: losses and weights.
            optimizer: optimizer of the tokenizer and of parameters of its losses.
            discriminator_optimizer: optimizer of the discriminator.
            updates: steps of the tokenizer in the whole run.
            accumulate: number of parts of a batch; an adaptive adversarial weight is that of each part.
            discriminator_start: first update with adversarial losses; a fraction, or a whole number of updates.
            ema_decay: decay of the averaged weights.
            seed: seed of initial weights and of all noise inside a step.
            num_tokens: number of tokens that the encoder keeps, in training and validation; None for its own number.

        Raises:
            ConfigError: a length that is neither a fraction nor a number of updates, or a discriminator without a loss.
        """
        average = ExponentialMovingAverage(tokenizer, ema_decay)
        super().__init__([optimizer, discriminator_optimizer], average, updates, accumulate, seed)
        self.tokenizer = tokenizer
        self.discriminator = discriminator
        self.objective = objective
        if discriminator is not None:
            objective.require_discriminator_loss()
        self.finite = FiniteCheck(tuple(objective.weights))
        self.num_tokens = num_tokens
        self.discriminator_from = in_updates(discriminator_start, updates, "discriminator_start")
        self._parts, self._diagnostics = [], {}

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One optimizer for the tokenizer and parameters of its losses and, if there is a discriminator, one for it."""
        trained = [nn.ModuleList([self.tokenizer, self.objective]), self.discriminator]
        return [settings.build(each) for settings, each in zip(self.optimizer_settings, trained, strict=True) if each is not None]

    def training_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Gradients of tokenizer and discriminator from one forward pass; every `accumulate` batches one step of each."""
        self.seed_noise()
        self.finite.watch(self.updates + 1, batch.keys)
        adversarial = self.discriminator is not None and self.updates >= self.discriminator_from
        images = normalize(batch.images)
        self._diagnostics = {}
        terms, reconstruction = self._generator_backward(images, adversarial)
        if adversarial:
            terms |= self._discriminator_backward(images, reconstruction.detach())
        self.batches += 1
        self._parts.append(terms | self._diagnostics)
        if not self.step_complete:
            return
        means = {name: torch.stack([part[name] for part in self._parts]).mean() for name in self._parts[-1]}
        terms, diagnostics = {name: means[name] for name in terms}, {name: means[name] for name in self._diagnostics}
        self._parts = []
        norms, skipped = self.step(terms, count=2 if adversarial else 1)
        self.objective.end_update(skipped)
        if self.logs_at(self.updates):
            self._log(terms, norms, diagnostics, len(batch.keys))

    def describe_change(self, earlier: int, update: int, rate: float) -> str:
        """See `ClockedTask`; adds the start of the discriminator."""
        line = super().describe_change(earlier, update, rate)
        if self.discriminator is None:
            return line
        verb = "started" if self.discriminator_from < update else "starts"
        return f"{line}; the discriminator {verb} after update {self.discriminator_from}"

    @property
    def trained(self) -> ImageTokenizer:
        """The tokenizer."""
        return self.tokenizer

    @property
    def counts(self) -> list[int]:
        """Numbers of tokens that images are encoded with; empty for the encoder's own number."""
        return [] if self.num_tokens is None else [self.num_tokens]

    @property
    def average_tokenizer(self) -> ImageTokenizer:
        """The tokenizer of the averaged weights, in eval mode."""
        return cast(ImageTokenizer, self.average.module)

    def _generator_backward(self, images: Tensor, adversarial: bool) -> tuple[dict[str, Tensor], Tensor]:
        """Gradients of the tokenizer: those of the image's losses are summed at the image, and one backward pass continues from there."""
        output: TokenizerOutput = self.tokenizer(images, self.num_tokens, self.objective.taps)
        reconstruction = output.decoder.reconstruction
        detached = detached_image(reconstruction)
        terms = self.objective.image_terms(detached, images)
        grad = image_grad(self.objective.total(terms), detached)
        if adversarial and self.objective.of_generator:
            adversarial_terms, adversarial_grad = self._adversarial_grad(detached, reconstruction, grad)
            terms |= adversarial_terms
            grad = grad + adversarial_grad
        inner = self.objective.inner_terms(self.tokenizer, TrainingPass(images, output, self.updates + 1))
        self.manual_backward(((reconstruction * grad).sum() + self.objective.total(inner)) / self.accumulate)
        return {name: term.detach() for name, term in (terms | inner).items()}, reconstruction

    def _adversarial_grad(self, detached: Tensor, reconstruction: Tensor, target_grad: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The adversarial term and its weighted gradient at the image; the discriminator is frozen for this pass and gets none.

        Args:
            detached: the reconstruction without its graph.
            reconstruction: the reconstruction with its graph.
            target_grad: weighted gradient of the image's other losses.
        """
        discriminator = cast(Discriminator, self.discriminator)
        discriminator.requires_grad_(False)
        terms = self.objective.generator_terms(discriminator(detached))
        grad = image_grad(self.objective.total(terms), detached)
        discriminator.requires_grad_(True)
        limit = self.objective.adaptive_limit
        if limit is not None or self.logs_at(self.updates + 1):
            weight = cast(Tensor, self.tokenizer.decoder.last_layer.weight)
            target_norm, norm = last_layer_norms(reconstruction, weight, [target_grad, grad])
            if limit is not None:
                factor = adaptive_weight(target_norm, norm / self.objective.weights[next(iter(terms))], limit)
                grad, norm = factor * grad, factor * norm
                self._diagnostics[ADAPTIVE_WEIGHT] = factor
            self._diagnostics[GRADIENT_RATIO] = norm / target_norm
        return terms, grad

    def _discriminator_backward(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Gradients of the discriminator on the same batch."""
        discriminator = cast(Discriminator, self.discriminator)
        update = self.updates + 1
        real = real.detach().requires_grad_(self.objective.needs_image_grad(update))
        # Only the plain attention can be differentiated twice.
        with sdpa_kernel(SDPBackend.MATH) if real.requires_grad else nullcontext():
            real_logits = discriminator(real)
        fake_logits = discriminator(fake)
        terms = self.objective.discriminator_terms(real_logits, fake_logits, real, update)
        self.manual_backward(self.objective.total(terms) / self.accumulate)
        self._diagnostics |= {"train/logits/real": real_logits.detach().mean(), "train/logits/fake": fake_logits.detach().mean()}
        return {name: term.detach() for name, term in terms.items()}

    def _log(self, terms: dict[str, Tensor], norms: list[Tensor], diagnostics: dict[str, Tensor], batch_size: int) -> None:
        """The one read of the device: every `log_every` updates."""
        self.finite.verify()
        self.report_step(step_values(self.objective, terms, norms, diagnostics), batch_size)

    def prepare(self, config: Mapping[str, Any], source: ImageSource) -> None:
        """Check losses and tokenizer against each other, and make the evaluation."""
        absent = self.objective.check(with_quantizer(self.tokenizer), source.image_size)
        self.idle = {f"loss.weights.{name}": "this quantizer has no such term" for name in absent}
        if self.discriminator is None:
            weights = [f"loss.weights.{name}" for name in self.objective.adversarial_terms if self.objective.weights[name]]
            self.idle |= dict.fromkeys([*weights, *OF_DISCRIMINATOR], "there is no discriminator")
        require_num_tokens(self.tokenizer, source.image_size, self.counts, "num_tokens")
        self.source = source
        losses, seed = describe_losses(config["task"]), config["seed"]
        average = make_subject("val", self.average_tokenizer, source, seed, "ema", losses, num_tokens=self.num_tokens)
        cache = average.metrics.cache
        trained = make_subject("val_raw", self.tokenizer, source, seed, "raw", losses, cache, self.num_tokens)
        self.subjects = [average, trained]

    def describe(self) -> dict[str, Any]:
        """Tokens and names of the classes, for generators."""
        tokens = self.tokenizer.tokens(self.source.image_size, len(self.source.classes or []), self.counts)
        return {"tokens": asdict(tokens), "classes": self.source.classes}

    def coupled(self) -> list[str]:
        """What every part of an accumulated batch computes by itself instead of the whole batch."""
        adversarial = self.discriminator is not None
        terms = self.objective.coupled_terms
        names = [f"loss.weights.{name}" for name in terms if adversarial or name not in self.objective.of_discriminator]
        if self.objective.adaptive_limit is not None and adversarial:
            names.append("loss.adaptive_limit")
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.modules()):
            names.append("statistics of batch normalization")
        return names

    def summarize(self) -> None:
        """Parameters, codes and bits, and what changes in a batch of several parts."""
        if self.accumulate > 1 and self.coupled():
            log.warning(
                "accumulate=%d: each part is computed by itself, not the whole batch, in %s", self.accumulate, ", ".join(self.coupled())
            )
        parts = {"encoder": self.tokenizer.encoder, "quantizer": self.tokenizer.quantizer, "decoder": self.tokenizer.decoder}
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
        if self.discriminator is not None:
            counts["discriminator"] = sum(p.numel() for p in self.discriminator.parameters())
        log.info("parameters: %s", ", ".join(f"{name} {count / 1e6:.3f} M" for name, count in counts.items()))
        quantizer = self.tokenizer.quantizer
        log.info("codebook_size %d, groups %d, %.1f bits per token", quantizer.codebook_size, quantizer.groups, quantizer.bits_per_token)

    def evaluate(self, data: ImageData) -> Evaluation:
        """Both tokenizers on the same evaluation images."""
        return evaluate(self.subjects, data.val_dataloader(), self.device)

    def figure(self, evaluation: Evaluation) -> Image.Image:
        """Originals, reconstructions and errors."""
        return comparison(evaluation.images, evaluation.reconstructions)


def with_quantizer(tokenizer: ImageTokenizer) -> ImageTokenizer:
    """A tokenizer on the meta device with a copy of its quantizer that has weights, because no code can be looked up without them."""
    quantizer = deepcopy(tokenizer.quantizer).to_empty(device="cpu").eval()
    quantizer.reset_parameters()
    return ImageTokenizer(tokenizer.encoder, quantizer, tokenizer.decoder)
