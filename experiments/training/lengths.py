"""Lengths of a run in updates: of its schedules, and the start of its discriminator. Imports no torch.

A fraction is of the updates that a run has when it starts. A run records its lengths in updates, and one that is continued with
another number of updates retains them, so that nothing changes that has already happened.
"""

from collections.abc import Mapping
from typing import Any

from experiments.training.schedules import in_updates, is_length

START = "task.discriminator_start"
OF_SCHEDULES = ("warmup", "decay", "milestones")
Lengths = dict[str, Any]  # whole numbers of updates, or lists of them, by dotted key of a configuration


def lengths_as_set(config: Mapping[str, Any]) -> Lengths:
    """The lengths of a resolved configuration, fractions as they are."""
    task = config["task"]
    schedules = {
        f"task.{name}.schedule": part["schedule"] for name, part in task.items() if isinstance(part, Mapping) and "schedule" in part
    }
    lengths = {f"{place}.{name}": node[name] for place, node in schedules.items() for name in OF_SCHEDULES if name in node}
    return lengths | ({START: task["discriminator_start"]} if "discriminator_start" in task else {})


def lengths_in_updates(config: Mapping[str, Any]) -> Lengths:
    """The lengths of a resolved configuration in updates. What is no length stays, for its constructor to refuse."""
    return {key: _in_updates(value, config["updates"], key) for key, value in lengths_as_set(config).items()}


def continued_lengths(config: Mapping[str, Any], earlier: Mapping[str, Any], recorded: Lengths) -> Lengths:
    """The lengths in updates of a run that is continued.

    Args:
        config: resolved configuration that it continues with; a length that was set to another value is of its updates.
        earlier: its configuration until now.
        recorded: its lengths until now; empty for a run that did not record them.
    """
    before, now, until_now = lengths_as_set(earlier), lengths_as_set(config), recorded_lengths(earlier, recorded)
    same = {key: until_now[key] for key in now if key in before and before[key] == now[key]}
    return {**lengths_in_updates(config), **same}


def recorded_lengths(config: Mapping[str, Any], recorded: Lengths) -> Lengths:
    """The lengths in updates of a run, by its configuration where it did not record them."""
    return {**lengths_in_updates(config), **recorded}


def with_lengths(config: Mapping[str, Any], lengths: Lengths) -> dict[str, Any]:
    """A resolved configuration with other lengths."""
    replaced = dict(config)
    for key, value in lengths.items():
        replaced = _with(replaced, key.split("."), value)
    return replaced


def _with(node: Mapping[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    name, *others = keys
    return {**node, name: _with(node[name], others, value) if others else value}


def _in_updates(length: Any, updates: int, key: str) -> Any:
    if isinstance(length, list):
        return [_in_updates(each, updates, key) for each in length]
    return in_updates(length, updates, key) if isinstance(length, int | float) and is_length(length) else length
