"""The objective of a tokenizer: its losses by name, and their weights."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from experiments.config.errors import ConfigError
from tokenizer.interfaces import QUANTIZER_LOSSES, AdversarialLoss, InnerLoss, TokenizerParts, TrainingPass


class Objective(nn.Module):
    """Unweighted terms and their weighted sum. Losses of weight zero are not configured, see `weighted_losses`."""

    def __init__(
        self,
        weights: dict[str, float],
        image: Mapping[str, nn.Module | None],
        inner: Mapping[str, InnerLoss | None],
        adversarial: Mapping[str, AdversarialLoss | None],
        adaptive_limit: float | None = None,
    ) -> None:
        """
        Args:
            weights: weights of the terms, by name.
            image: losses of (reconstruction, images), both (B, 3, H, W) in [-1, 1], to a scalar, by the names of their terms.
            inner: losses of the inside of the tokenizer, by the names of their terms.
            adversarial: losses of the discriminator's logits, each with the terms that it names.
            adaptive_limit: largest factor of the adversarial weight that scales the norm of the adversarial gradient to that of
                the other losses of the image; None for no such factor.

        Raises:
            ConfigError: a weight for a term that no loss has, a loss without a weight, or a limit that is not above 0 or for several terms.
        """
        super().__init__()
        self.weights = dict(weights)
        self.adaptive_limit = adaptive_limit
        self.image, self.inner, self.adversarial = (
            nn.ModuleDict({name: loss for name, loss in losses.items() if loss is not None}) for losses in (image, inner, adversarial)
        )
        self._check({"image": image, "inner": inner, "adversarial": adversarial})

    def _check(self, groups: Mapping[str, Mapping[str, nn.Module | None]]) -> None:
        terms = [*self.image, *self.inner, *self.adversarial_terms]
        for name, weight in self.weights.items():
            if weight and name not in (*terms, *QUANTIZER_LOSSES):
                group = next((group for group, losses in groups.items() if name in losses), None)
                reason = f"loss.{group}.{name} is null" if group else "no loss has this term"
                advice = "set the weight to 0, or choose a loss that has it, such as loss=lpips"
                raise ConfigError(f"loss.weights.{name}", weight, reason=reason, advice=advice)
        for name in terms:
            if terms.count(name) > 1:
                raise ConfigError(f"loss.weights.{name}", reason="several losses have this term", advice="leave out all but one of them")
            if name not in self.weights:
                raise ConfigError(f"loss.weights.{name}", reason="a loss has this term, and it has no weight", advice=_add(name))
        if self.adaptive_limit is not None and not self.adaptive_limit > 0:
            raise ConfigError("loss.adaptive_limit", self.adaptive_limit, expected="above 0, or null for a fixed adversarial weight")
        if self.adaptive_limit is not None and len(self.of_generator) > 1:
            reason = f"it scales one adversarial term, there are {', '.join(self.of_generator)}"
            raise ConfigError("loss.adaptive_limit", self.adaptive_limit, reason=reason, expected="null")

    @property
    def of_generator(self) -> list[str]:
        """Names of the adversarial terms of the tokenizer whose weights are not zero."""
        return [name for loss in self._adversarial() for name in loss.of_generator if self.weights[name]]

    @property
    def adversarial_terms(self) -> list[str]:
        """Names of all terms of the adversarial losses."""
        return [name for loss in self._adversarial() for name in (*loss.of_generator, *loss.of_discriminator)]

    @property
    def of_discriminator(self) -> list[str]:
        """Names of the terms of the discriminator."""
        return [name for loss in self._adversarial() for name in loss.of_discriminator]

    @property
    def coupled_terms(self) -> list[str]:
        """Names of the terms that are no means over images: those of a batch in parts differ from those of the whole batch."""
        adversarial = [loss.of_discriminator for loss in self._adversarial() if loss.couples_images]
        return [*(name for name, loss in self._inner().items() if loss.couples_images), *(name for names in adversarial for name in names)]

    @property
    def taps(self) -> tuple[int, ...]:
        """Numbers of the decoder's blocks whose outputs inner losses read."""
        return tuple(sorted({tap for loss in self._inner().values() for tap in loss.taps}))

    def image_terms(self, reconstruction: Tensor, images: Tensor) -> dict[str, Tensor]:
        """The unweighted terms that compare two (B, 3, H, W) in [-1, 1]."""
        return {name: loss(reconstruction, images) for name, loss in self.image.items()}

    def inner_terms(self, tokenizer: TokenizerParts, current: TrainingPass) -> dict[str, Tensor]:
        """The unweighted terms of the quantizer and of the inner losses that are due."""
        terms = {name: term for name, term in current.output.quantizer.losses.items() if self.weights[name]}
        current = replace(current, image_loss=lambda image: self.total(self.image_terms(image, current.images)))
        due = {name: loss(tokenizer, current) for name, loss in self.inner.items()}
        return terms | {name: term for name, term in due.items() if term is not None}

    @torch.no_grad()
    def check(self, tokenizer: TokenizerParts, image_size: int) -> list[str]:
        """Check that tokenizer and inner losses suit each other.

        Args:
            tokenizer: parts of a tokenizer, see `InnerLoss.check`.
            image_size: side of the images in pixels.

        Returns:
            weighted terms of quantizers that this one does not have.

        Raises:
            ConfigError: the quantizer has a loss without a weight, or a loss reads what the tokenizer does not have.
        """
        quantizer_losses = tokenizer.quantizer(torch.randn(1, 2, tokenizer.quantizer.latent_dim)).losses
        for name in sorted(set(quantizer_losses) - set(self.weights)):
            raise ConfigError(f"loss.weights.{name}", reason="the quantizer has this loss, and it has no weight", advice=_add(name))
        for name, loss in self._inner().items():
            try:
                tokenizer.decoder.require_blocks(loss.taps)
                loss.check(tokenizer, image_size)
            except (NotImplementedError, ValueError) as error:
                raise ConfigError(f"loss.weights.{name}", self.weights[name], reason=str(error)) from error
        return [name for name in QUANTIZER_LOSSES if self.weights.get(name) and name not in quantizer_losses]

    def generator_terms(self, fake_logits: Tensor) -> dict[str, Tensor]:
        """The adversarial terms of the tokenizer, without those of weight zero."""
        terms = {name: term for loss in self._adversarial() for name, term in loss.generator_terms(fake_logits).items()}
        return {name: terms[name] for name in self.of_generator}

    def discriminator_terms(self, real_logits: Tensor, fake_logits: Tensor, real_images: Tensor, update: int) -> dict[str, Tensor]:
        """The unweighted terms of the discriminator, see `AdversarialLoss`."""
        losses = [loss.discriminator_terms(real_logits, fake_logits, real_images, update) for loss in self._adversarial()]
        return {name: term for terms in losses for name, term in terms.items()}

    def needs_image_grad(self, update: int) -> bool:
        """Whether update number `update`, counted from 1, has terms of gradients at the real images."""
        return any(loss.needs_image_grad(update) for loss in self._adversarial())

    def end_update(self, skipped: Tensor) -> None:
        """Commit the state of the losses, unless the step was skipped, () above 0."""
        for loss in self._adversarial():
            loss.end_update(skipped)

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return cast(Tensor, sum(self.weights[name] * term for name, term in terms.items()))

    def require_discriminator_loss(self) -> None:
        """Refuse an objective without a loss for the discriminator.

        Raises:
            ConfigError: the discriminator's weight is zero.
        """
        weight = self.weights.get("discriminator")
        if not weight:
            advice = "set a weight above 0, or discriminator=none"
            raise ConfigError("loss.weights.discriminator", weight, reason="a discriminator is configured", advice=advice)

    def _inner(self) -> dict[str, InnerLoss]:
        return cast(dict[str, InnerLoss], dict(self.inner.items()))

    def _adversarial(self) -> list[AdversarialLoss]:
        return cast(list[AdversarialLoss], list(self.adversarial.values()))


def _add(name: str) -> str:
    return f"set `loss.weights.{name}`; `+` adds one that the file does not have"
