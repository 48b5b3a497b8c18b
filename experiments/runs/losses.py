"""The losses of a configuration that have an effect. Imports no torch."""

from collections.abc import Mapping
from typing import Any

GROUPS = ("image", "inner", "adversarial")  # of losses by name, in an objective
OF_ANY_DISCRIMINATOR = ("adversarial", "discriminator")  # terms; those of the group's other losses have the losses' names


def weighted_losses(objective: Mapping[str, Any]) -> dict[str, Any]:
    """An objective's configuration without the losses of weight zero: they may need weights of networks that are not here.

    A loss of several terms has no weight of its own name, and stays.
    """
    weights = objective["weights"]
    groups = {group: {name: loss for name, loss in objective[group].items() if weights.get(name, 1)} for group in GROUPS}
    return {**objective, **groups}


def counted_weights(task: Mapping[str, Any]) -> dict[str, float]:
    """The weights that have an effect: not zero, and of the discriminator's losses only if there is one.

    Args:
        task: the resolved `task` of a tokenizer's configuration.
    """
    objective = task["objective"]
    idle = () if task["discriminator"] else (*OF_ANY_DISCRIMINATOR, *objective["adversarial"])
    return {name: weight for name, weight in objective["weights"].items() if weight and name not in idle}


def effective(task: Mapping[str, Any]) -> dict[str, Any]:
    """A task without the losses of weight zero and, if there is no discriminator, without its settings."""
    if "objective" not in task:
        return dict(task)
    objective = {**weighted_losses(task["objective"]), "weights": counted_weights(task)}
    if task["discriminator"]:
        return {**task, "objective": objective}
    objective = {key: value for key, value in objective.items() if key not in ("adversarial", "adaptive_limit")}
    return {**{key: value for key, value in task.items() if not key.startswith("discriminator_")}, "objective": objective}
