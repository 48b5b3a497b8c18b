"""The objective of a tokenizer: which loss terms there are, and how much each weighs."""

import logging
from typing import cast

from torch import Tensor, nn

from tokenizer.interfaces import AdversarialLoss, Quantizer, QuantizerOutput, TokenizerOutput

log = logging.getLogger(__name__)

TERMS = ("reconstruction", "perceptual", "commitment", "codebook", "entropy", "total_coding_rate", "adversarial", "discriminator")


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
    ) -> None:
        """Join losses and weights.

        Args:
            weights: of the terms, by name; `discriminator` weighs the discriminator's own loss.
            reconstruction: (reconstruction, images) to a scalar.
            perceptual: likewise.
            adversarial: both sides of the game.
            entropy: (quantizer, lookup_latents) to a scalar.
            total_coding_rate: (lookup_latents, codes) to a scalar.

        Raises:
            ValueError: an unknown term, or a weight for a loss that is not configured.
        """
        super().__init__()
        unknown = sorted(set(weights) - set(TERMS))
        if unknown:
            raise ValueError(f"loss.weights has {', '.join(unknown)}; the terms are {', '.join(TERMS)}")
        losses = {
            "reconstruction": reconstruction,
            "perceptual": perceptual,
            "entropy": entropy,
            "total_coding_rate": total_coding_rate,
            "adversarial": adversarial,
        }
        for name, loss in losses.items():
            if loss is None and weights.get(name):
                reason = f"but loss.{name} is null; set the weight to 0, or choose a loss that has it, such as loss=lpips"
                raise ValueError(f"loss.weights.{name}={weights[name]}, {reason}")
        self.weights = dict(weights)
        self.reconstruction = reconstruction
        self.perceptual = perceptual if weights.get("perceptual") else None
        self.adversarial = adversarial
        self.entropy = entropy if weights.get("entropy") else None
        self.total_coding_rate = total_coding_rate if weights.get("total_coding_rate") else None

    def tokenizer_terms(self, images: Tensor, output: TokenizerOutput, quantizer: Quantizer) -> dict[str, Tensor]:
        """The unweighted terms that need no discriminator.

        Args:
            images: (B, 3, H, W) in [-1, 1].
            output: of the same images.
            quantizer: the one that made the output.

        Raises:
            ValueError: the quantizer produced a term that has no weight.
        """
        reconstruction = output.decoder.reconstruction
        terms = {}
        if self.weights.get("reconstruction"):
            terms["reconstruction"] = self.reconstruction(reconstruction, images)
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(reconstruction, images)
        return terms | self.quantizer_terms(output.quantizer, quantizer)

    def quantizer_terms(self, output: QuantizerOutput, quantizer: Quantizer) -> dict[str, Tensor]:
        """Those of the terms that look at the quantizer alone.

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

    def discriminator_terms(self, real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
        """The discriminator's own term."""
        return self._game().discriminator_terms(real_logits, fake_logits)

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
