"""Settings of a command line that change nothing beside the others: each is named once, with the reason.

A value of a configuration file that changes nothing is no mistake of the user.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from experiments.config.draft import Draft

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z_][\w.]*")


def report_idle(words: Iterable[str], idle: Mapping[str, str]) -> None:
    """Log which settings have no effect.

    Args:
        words: keys of the command line's overrides, or the overrides themselves.
        idle: settings without effect, by key, with the reason; those below a key are without effect too.
    """
    for word in words:
        key = word.partition("=")[0].lstrip("+~")
        reason = next((reason for setting, reason in idle.items() if key == setting or key.startswith(f"{setting}.")), None)
        if reason:
            log.warning("%s has no effect: %s", key, reason)


def unread(draft: "Draft", settings: "BaseModel | None") -> dict[str, str]:
    """The keys of the command line that no other value of the configuration refers to, with the reason.

    Args:
        draft: configuration with its interpolations.
        settings: the verb's own, which it reads itself; None for a verb without a class of them.
    """
    if settings is None:
        return {}
    names = set(_references(draft.raw))
    idle = {}
    for word in draft.words:
        key = word.lstrip("+~").rpartition("@")[2].replace("/", ".")
        first = key.partition(".")[0]
        near = any(name == key or name.startswith(f"{key}.") or key.startswith(f"{name}.") for name in names)
        if first in draft.raw and first not in type(settings).model_fields and not near:
            idle[word.lstrip("+~")] = "nothing in this configuration reads it"
    return idle


def _references(tree: Any) -> Iterator[str]:
    """The names in all interpolations of a tree."""
    if isinstance(tree, str) and "${" in tree:
        yield from NAME.findall(tree)
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    for value in inner:
        yield from _references(value)
