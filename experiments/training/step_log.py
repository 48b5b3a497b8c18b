"""Values that a training step logs, read from the device at once."""

import torch
from torch import Tensor

from experiments.training.objective import Objective
from tokenizer.layers.distributed import sum_over_ranks, world_size

ADAPTIVE_WEIGHT = "train/adversarial/adaptive_weight"
GRADIENT_RATIO = "train/adversarial/gradient_ratio"


def means_over_ranks(named: dict[str, Tensor]) -> dict[str, float]:
    """Scalars of the joined batch, read from the device at once."""
    joined = sum_over_ranks(torch.stack([value.float() for value in named.values()])) / world_size()
    return dict(zip(named, joined.tolist(), strict=True))


def step_values(objective: Objective, terms: dict[str, Tensor], norms: list[Tensor], diagnostics: dict[str, Tensor]) -> dict[str, float]:
    """Values by log key: means over the joined batch of all processes.

    Args:
        objective: objective with the weights.
        terms: unweighted loss terms, scalars.
        norms: gradient norms of the tokenizer and, if it took a step, of the discriminator.
        diagnostics: other scalars by log key.

    Returns:
        with `train/weighted/...` of every term and `train/loss/total`, the generator's weighted sum.
    """
    named = {f"train/loss/{name}": term for name, term in terms.items()}
    named |= dict(zip(("train/gradient_norm/generator", "train/gradient_norm/discriminator"), norms, strict=False))
    named |= diagnostics
    values = means_over_ranks(named)
    for name in terms:
        factor = values.get(ADAPTIVE_WEIGHT, 1.0) if name in objective.of_generator else 1.0
        values[f"train/weighted/{name}"] = factor * objective.weights[name] * values[f"train/loss/{name}"]
    values["train/loss/total"] = sum(values[f"train/weighted/{name}"] for name in terms if name not in objective.of_discriminator)
    return values
