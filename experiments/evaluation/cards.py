"""The card of a number: everything that must agree before two numbers are compared. Imports no torch."""

import functools
import importlib.metadata
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from experiments.runs.losses import GROUPS, counted_weights

OPTIONAL = ("num_tokens", "classes", "labeled")
# A table about losses compares runs that differ in them, one about generators compares protocols.
NOT_COMPARED = ("seed", "code_version", "losses", "protocol")


@functools.cache
def code_version() -> str:
    """The checkout's commit, with `-dirty` where tracked files were changed; outside a checkout the package's version."""
    root = Path(__file__).resolve().parents[2]
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass
    try:
        return importlib.metadata.version("tessera-tokenizers")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def library(name: str) -> str:
    """A library with its version, such as `lpips 0.1.4`."""
    return f"{name} {importlib.metadata.version(name)}"


@dataclass(frozen=True)
class Card:
    """Conditions of one number."""

    metric: str  # its name, such as psnr
    backend: str  # library that computed it, with version; `tessera` for this one
    network: str | None  # feature network, None without one
    weights: str | None  # file name and first digits of the SHA-256 of the network's file
    resize: str | None  # how the network or the baseline resizes its input
    transform: str  # how the images were cropped
    image_size: int  # side in pixels
    reference: str  # images that the number refers to
    n: int  # number of images
    aggregate: str  # how one number is made from many images
    dtype: str  # of the computation
    subject: str  # ema or raw weights
    guidance: float | str | None  # scale, or a text with scale, schedule and sampling; None for reconstructions
    losses: str | None  # losses that trained the model, see `describe_losses`; None if that is not known
    seed: int  # of the run
    protocol: str | None = None  # of a probe, see `experiments.evaluation.protocol`; None for other numbers
    code_version: str = field(default_factory=code_version)
    num_tokens: int | None = None  # number of tokens that the encoder was asked to keep; None for its own number
    classes: str | None = None  # of samples: how their classes were chosen; None for reconstructions
    labeled: int | None = None  # images with a label, of a number that depends on labels; None where all images have one

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for `result.json`; without the fields of `OPTIONAL` that are None, as in cards of earlier versions."""
        return {name: value for name, value in asdict(self).items() if value is not None or name not in OPTIONAL}


def describe_losses(task: Mapping[str, Any]) -> str | None:
    """The losses that train a tokenizer, with their weights, and the absent ones, of the resolved `task` of a configuration.

    None for a run of an earlier version, whose losses are not in groups.
    """
    if any(group not in task["objective"] for group in GROUPS):
        return None
    counted = counted_weights(task)
    parts = [", ".join(f"{name} {weight:g}" for name, weight in counted.items())]
    networks = {"perceptual": task["objective"]["image"].get("perceptual"), "adversarial": task["discriminator"]}
    for name, node in networks.items():
        parts.append(f"{name} by {str(node['_target_']).rpartition('.')[2]}" if name in counted else f"no {name} loss")
    return "; ".join(parts)


def comparable(one: Card | Mapping[str, Any], other: Card | Mapping[str, Any]) -> list[str]:
    """Names of the fields that differ, apart from `NOT_COMPARED`; empty if the two numbers may be compared."""
    first, second = (card.to_dict() if isinstance(card, Card) else card for card in (one, other))
    names = [*first, *(name for name in second if name not in first)]
    absent = object()
    return [name for name in names if name not in NOT_COMPARED and first.get(name, absent) != second.get(name, absent)]
