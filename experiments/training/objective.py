"""The objective of a tokenizer: its loss terms and their weights."""

import logging
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from experiments.config.errors import ConfigError
from tokenizer.interfaces import AdversarialLoss, Quantizer, QuantizerOutput
from tokenizer.losses.gradient_penalty import GradientPenaltyLoss
from tokenizer.losses.lecam import LeCAMLoss

log = logging.getLogger(__name__)

GENERATOR_TERMS = ("reconstruction", "perceptual", "commitment", "codebook", "entropy", "total_coding_rate", "adversarial")
DISCRIMINATOR_TERMS = ("discriminator", "lecam", "gradient_penalty")
TERMS = GENERATOR_TERMS + DISCRIMINATOR_TERMS


class Objective(nn.Module):
    """Unweighted terms and their weighted sum. A term of weight zero is not computed."""

    def __init__(
        self,
        weights: dict[str, float],
        reconstruction: nn.Module | None,
        perceptual: nn.Module | None = None,
        adversarial: AdversarialLoss | None = None,
        entropy: nn.Module | None = None,
        total_coding_rate: nn.Module | None = None,
        lecam: LeCAMLoss | None = None,
        gradient_penalty: GradientPenaltyLoss | None = None,
        adaptive_limit: float | None = None,
    ) -> None:
        """
        Args:
            weights: weights of the terms, by name; `discriminator`, `lecam` and `gradient_penalty` make the discriminator's loss.
            reconstruction: (reconstruction, images) to a scalar.
            perceptual: likewise.
            adversarial: losses of the tokenizer and of the discriminator.
            entropy: (quantizer, lookup_latents) to a scalar.
            total_coding_rate: (lookup_latents, codes) to a scalar.
            lecam: (real_logits, fake_logits) to a scalar of the discriminator's loss.
            gradient_penalty: (real_logits, images) likewise.
            adaptive_limit: largest factor of the adversarial weight that scales the norm of the adversarial gradient to that of
                the other losses of the image; None for no such factor.

        Raises:
            ConfigError: an unknown term, a weight for a loss that is not configured, or a limit not above 0.
        """
        super().__init__()
        losses = {
            "reconstruction": reconstruction,
            "perceptual": perceptual,
            "entropy": entropy,
            "total_coding_rate": total_coding_rate,
            "adversarial": adversarial,
            "lecam": lecam,
            "gradient_penalty": gradient_penalty,
        }
        _check(weights, losses, adaptive_limit)
        self.weights = dict(weights)
        self.adaptive_limit = adaptive_limit
        self.reconstruction = reconstruction if weights.get("reconstruction") else None
        self.perceptual = perceptual if weights.get("perceptual") else None
        self.adversarial = adversarial
        self.entropy = entropy if weights.get("entropy") else None
        self.total_coding_rate = total_coding_rate if weights.get("total_coding_rate") else None
        self.lecam = lecam if weights.get("lecam") else None
        self.gradient_penalty = gradient_penalty if weights.get("gradient_penalty") else None

    def image_terms(self, reconstruction: Tensor, images: Tensor) -> dict[str, Tensor]:
        """The unweighted terms that compare two (B, 3, H, W) in [-1, 1]."""
        terms = {}
        if self.reconstruction is not None:
            terms["reconstruction"] = self.reconstruction(reconstruction, images)
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(reconstruction, images)
        return terms

    def quantizer_terms(self, output: QuantizerOutput, quantizer: Quantizer) -> dict[str, Tensor]:
        """The unweighted terms that depend on the quantizer alone.

        Args:
            output: output of the quantizer.
            quantizer: the quantizer.

        Raises:
            ConfigError: the quantizer has a term without a weight, or cannot compute one that has a weight.
        """
        terms = {}
        for name, term in output.losses.items():
            if name not in self.weights:
                raise ConfigError(f"loss.weights.{name}", reason="the quantizer has this loss, and it has no weight; set one")
            if self.weights[name]:
                terms[name] = term
        if self.entropy is not None:
            try:
                terms["entropy"] = self.entropy(quantizer, output.lookup_latents)
            except NotImplementedError as error:
                raise ConfigError("loss.weights.entropy", self.weights["entropy"], reason=str(error)) from error
        if self.total_coding_rate is not None:
            terms["total_coding_rate"] = self.total_coding_rate(output.lookup_latents, quantizer.codes)
        return terms

    def generator_terms(self, fake_logits: Tensor) -> dict[str, Tensor]:
        """The adversarial term, empty if its weight is zero."""
        return self._adversarial().generator_terms(fake_logits) if self.has_adversarial_term else {}

    def discriminator_terms(self, real_logits: Tensor, fake_logits: Tensor, penalized_images: Tensor | None = None) -> dict[str, Tensor]:
        """The unweighted terms of the discriminator.

        Args:
            real_logits: (B, K).
            fake_logits: (B, K).
            penalized_images: (B, 3, H, W) the real images as a leaf that requires a gradient, in updates of `penalty_is_due`.
        """
        terms = self._adversarial().discriminator_terms(real_logits, fake_logits)
        if self.lecam is not None:
            terms["lecam"] = self.lecam(real_logits, fake_logits)
        if self.gradient_penalty is not None and penalized_images is not None:
            terms["gradient_penalty"] = self.gradient_penalty(real_logits, penalized_images)
        return terms

    def penalty_is_due(self, update: int) -> bool:
        """Whether update number `update`, counted from 1, has a gradient penalty."""
        return self.gradient_penalty is not None and self.gradient_penalty.is_due(update)

    def end_update(self, skipped: Tensor) -> None:
        """Commit the state of the losses, unless the step was skipped, () above 0."""
        if self.lecam is not None:
            self.lecam.keep(skipped)

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return cast(Tensor, sum(self.weights[name] * term for name, term in terms.items()))

    @property
    def has_adversarial_term(self) -> bool:
        """Whether the tokenizer's loss has an adversarial term."""
        return bool(self.weights.get("adversarial"))

    def require_discriminator_loss(self) -> None:
        """Refuse an objective without a loss for the discriminator.

        Raises:
            ConfigError: there is no adversarial loss, or the discriminator's weight is zero.
        """
        self._adversarial()
        weight = self.weights.get("discriminator")
        if not weight:
            advice = "set a weight above 0, or discriminator=none"
            raise ConfigError("loss.weights.discriminator", weight, reason="a discriminator is configured", advice=advice)

    def idle_weights(self, quantizer_terms: set[str]) -> list[str]:
        """Weighted terms that a quantizer with `quantizer_terms` never has, for one message at the start."""
        return [name for name in ("commitment", "codebook") if self.weights.get(name) and name not in quantizer_terms]

    def _adversarial(self) -> AdversarialLoss:
        if self.adversarial is None:
            advice = "set discriminator=none, or choose a loss that has it"
            raise ConfigError("loss.adversarial", None, reason="a discriminator is configured", advice=advice)
        return self.adversarial


def weighted_losses(objective: Mapping[str, Any]) -> dict[str, Any]:
    """An objective's configuration without the losses of weight zero: they may need weights of networks that are not here.

    The adversarial loss stays: it also has the discriminator's terms.
    """
    idle = [name for name, weight in objective["weights"].items() if name in objective and name != "adversarial" and not weight]
    return {**objective, **dict.fromkeys(idle)}


def _check(weights: dict[str, float], losses: dict[str, nn.Module | None], adaptive_limit: float | None) -> None:
    unknown = sorted(set(weights) - set(TERMS))
    if unknown:
        raise ConfigError(f"loss.weights.{unknown[0]}", weights[unknown[0]], expected=f"one of the terms {', '.join(TERMS)}")
    for name, loss in losses.items():
        if loss is None and weights.get(name):
            advice = "set the weight to 0, or choose a loss that has it, such as loss=lpips"
            raise ConfigError(f"loss.weights.{name}", weights[name], reason=f"loss.{name} is null", advice=advice)
    if adaptive_limit is not None and not adaptive_limit > 0:
        raise ConfigError("loss.adaptive_limit", adaptive_limit, expected="above 0, or null for a fixed adversarial weight")
