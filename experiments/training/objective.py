"""The objective of a tokenizer: which loss terms there are, and how much each weighs."""

import logging
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

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
        reconstruction: nn.Module,
        perceptual: nn.Module | None = None,
        adversarial: AdversarialLoss | None = None,
        entropy: nn.Module | None = None,
        total_coding_rate: nn.Module | None = None,
        lecam: LeCAMLoss | None = None,
        gradient_penalty: GradientPenaltyLoss | None = None,
        adaptive_limit: float | None = None,
    ) -> None:
        """Join losses and weights.

        Args:
            weights: of the terms, by name; `discriminator`, `lecam` and `gradient_penalty` make the discriminator's loss.
            reconstruction: (reconstruction, images) to a scalar.
            perceptual: likewise.
            adversarial: both sides of the game.
            entropy: (quantizer, lookup_latents) to a scalar.
            total_coding_rate: (lookup_latents, codes) to a scalar.
            lecam: (real_logits, fake_logits) to a scalar of the discriminator's loss.
            gradient_penalty: (real_logits, images) likewise.
            adaptive_limit: largest factor of the adversarial weight that makes the adversarial gradient as long as that of
                the other losses of the image; None for no such factor.

        Raises:
            ValueError: an unknown term, a weight for a loss that is not configured, or a limit not above 0.
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
        self.reconstruction = reconstruction
        self.perceptual = perceptual if weights.get("perceptual") else None
        self.adversarial = adversarial
        self.entropy = entropy if weights.get("entropy") else None
        self.total_coding_rate = total_coding_rate if weights.get("total_coding_rate") else None
        self.lecam = lecam if weights.get("lecam") else None
        self.gradient_penalty = gradient_penalty if weights.get("gradient_penalty") else None

    def image_terms(self, reconstruction: Tensor, images: Tensor) -> dict[str, Tensor]:
        """The unweighted terms that compare two (B, 3, H, W) in [-1, 1]."""
        terms = {}
        if self.weights.get("reconstruction"):
            terms["reconstruction"] = self.reconstruction(reconstruction, images)
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(reconstruction, images)
        return terms

    def quantizer_terms(self, output: QuantizerOutput, quantizer: Quantizer) -> dict[str, Tensor]:
        """The unweighted terms that look at the quantizer alone.

        Args:
            output: of the quantizer.
            quantizer: the one that made the output.

        Raises:
            ValueError: the quantizer produced a term that has no weight, or has no such term as a weight asks for.
        """
        terms = {}
        for name, term in output.losses.items():
            if name not in self.weights:
                raise ValueError(f"the quantizer has a loss {name!r} that has no weight; set loss.weights.{name}")
            if self.weights[name]:
                terms[name] = term
        if self.entropy is not None:
            try:
                terms["entropy"] = self.entropy(quantizer, output.lookup_latents)
            except NotImplementedError as error:
                raise ValueError(f"loss.weights.entropy={self.weights['entropy']}: {error}") from error
        if self.total_coding_rate is not None:
            terms["total_coding_rate"] = self.total_coding_rate(output.lookup_latents, quantizer.codes)
        return terms

    def generator_terms(self, fake_logits: Tensor) -> dict[str, Tensor]:
        """The adversarial term, empty if it weighs nothing."""
        return self._game().generator_terms(fake_logits) if self.plays_against_discriminator else {}

    def discriminator_terms(self, real_logits: Tensor, fake_logits: Tensor, punished: Tensor | None = None) -> dict[str, Tensor]:
        """The unweighted terms of the discriminator.

        Args:
            real_logits: (B, K).
            fake_logits: (B, K).
            punished: (B, 3, H, W) the real images as a leaf that requires a gradient, in updates of `penalty_is_due`.
        """
        terms = self._game().discriminator_terms(real_logits, fake_logits)
        if self.lecam is not None:
            terms["lecam"] = self.lecam(real_logits, fake_logits)
        if self.gradient_penalty is not None and punished is not None:
            terms["gradient_penalty"] = self.gradient_penalty(real_logits, punished)
        return terms

    def penalty_is_due(self, update: int) -> bool:
        """Whether update number `update`, counted from 1, has a gradient penalty."""
        return self.gradient_penalty is not None and self.gradient_penalty.is_due(update)

    def keep(self, refused: Tensor) -> None:
        """End an update: what losses remember of it stays, unless the step was refused, () above 0."""
        if self.lecam is not None:
            self.lecam.keep(refused)

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return cast(Tensor, sum(self.weights[name] * term for name, term in terms.items()))

    @property
    def plays_against_discriminator(self) -> bool:
        """Whether the tokenizer needs the discriminator's judgement."""
        return bool(self.weights.get("adversarial"))

    def require_game(self) -> None:
        """Refuse what leaves a discriminator without a loss to learn by.

        Raises:
            ValueError: there is no adversarial loss, or it weighs nothing for the discriminator.
        """
        self._game()
        weight = self.weights.get("discriminator")
        if not weight:
            told = " is absent" if weight is None else f"={weight}"
            raise ValueError(
                f"loss.weights.discriminator{told}: a discriminator is configured; set a weight above 0, or discriminator=none"
            )

    def idle_weights(self, quantizer_terms: set[str]) -> list[str]:
        """Weighted terms that a quantizer with `quantizer_terms` never produces, to be named once at the start."""
        return [name for name in ("commitment", "codebook") if self.weights.get(name) and name not in quantizer_terms]

    def _game(self) -> AdversarialLoss:
        if self.adversarial is None:
            raise ValueError(
                "a discriminator is configured but loss.adversarial is null; set discriminator=none or choose a loss that has it"
            )
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
        raise ValueError(f"loss.weights has {', '.join(unknown)}; the terms are {', '.join(TERMS)}")
    for name, loss in losses.items():
        if loss is None and weights.get(name):
            reason = f"but loss.{name} is null; set the weight to 0, or choose a loss that has it, such as loss=lpips"
            raise ValueError(f"loss.weights.{name}={weights[name]}, {reason}")
    if adaptive_limit is not None and not adaptive_limit > 0:
        raise ValueError(f"loss.adaptive_limit={adaptive_limit}: expected above 0, or null for a fixed adversarial weight")
