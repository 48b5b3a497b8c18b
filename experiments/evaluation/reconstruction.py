"""Evaluation of tokenizers: during training, after it, and by `python -m experiments.evaluate`."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from experiments.config.errors import DataError
from experiments.data.transforms import normalize
from experiments.evaluation.results import Skipped
from experiments.evaluation.subjects import Subject, TokenizerSubject
from tokenizer.interfaces import ImageBatch
from tokenizer.layers.distributed import is_distributed, world_size
from tokenizer.layers.precision import full_precision_unless_autocast


@dataclass(frozen=True)
class Evaluation:
    """Results by log key, their cards, absent metrics, and some images."""

    values: dict[str, float]
    cards: dict[str, dict[str, Any]]
    skipped: dict[str, Skipped]
    unreadable: list[str]  # keys of images that could not be read
    images: Tensor = field(default_factory=lambda: torch.empty(0))  # evaluation images, or samples of a generator
    reconstructions: Tensor = field(default_factory=lambda: torch.empty(0))  # of the images by the first subject; empty for samples
    counts: Tensor | None = None  # (G, V) int64, choices of each code of each group by the first subject; None where not counted


class Preview:
    """A few images, spread over a set of unknown size: every `stride`-th, and the stride doubles as the set grows.

    Args:
        count: largest number of images; up to twice as many are stored meanwhile.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.stride = 1
        self.seen = 0
        self.stored: list[tuple[Tensor, Tensor]] = []

    def add(self, images: Tensor, reconstructions: Tensor) -> None:
        """Choose from a batch (B, 3, H, W)."""
        for row in range(-self.seen % self.stride, len(images), self.stride):
            self.stored.append((images[row].cpu(), reconstructions[row].cpu()))
        self.seen += len(images)
        while len(self.stored) > 2 * self.count:
            self.stored = self.stored[::2]
            self.stride *= 2

    def images(self) -> tuple[Tensor, Tensor]:
        """Images and reconstructions on the CPU, both (n, 3, H, W), n at most `count`; empty if there were none."""
        chosen = torch.linspace(0, len(self.stored) - 1, min(self.count, len(self.stored))).round().int().tolist()
        columns = [[self.stored[place][side] for place in chosen] for side in (0, 1)]
        images, reconstructions = (torch.stack(column) if column else torch.empty(0) for column in columns)
        return images, reconstructions


@contextmanager
def evaluating(subjects: Sequence[Subject[Any, Any]], device: torch.device) -> Iterator[None]:
    """Models in eval mode, in full precision unless under autocast, and metrics without images; the modes return afterwards."""
    were_training = {subject.model: subject.model.training for subject in subjects}  # several subjects may share a model
    for subject in subjects:
        subject.model.eval()
        subject.metrics.reset()
    with full_precision_unless_autocast(device):
        yield
    for model, training in were_training.items():
        model.train(training)


@torch.no_grad()
def evaluate(subjects: list[TokenizerSubject], batches: Iterable[ImageBatch], device: torch.device, shown: int = 8) -> Evaluation:
    """Run all subjects over the same images.

    Args:
        subjects: on the device, each in eval mode meanwhile; several may have one model, with different numbers of tokens.
        batches: uint8 images.
        shown: number of images to return, spread over the set.

    Raises:
        DataError: no image could be read.
    """
    preview = Preview(shown)
    unreadable: list[str] = []
    with evaluating(subjects, device):
        for batch in batches:
            pixels = normalize(batch.images.to(device))
            unreadable += batch.left_out
            is_empty = len(pixels) == 0
            if is_empty:  # a sharded model computes on all ranks together: one without images runs a blank one, which is not counted
                pixels = pixels.new_zeros(1, *pixels.shape[1:])
            for subject in subjects:
                output = subject.model(pixels, subject.num_tokens)
                if is_empty:
                    continue
                subject.metrics.update(pixels, output)
                if subject is subjects[0]:
                    preview.add(pixels, output.decoder.reconstruction)
    evaluation = collect(subjects, unreadable)
    images, reconstructions = preview.images()
    return replace(evaluation, images=images, reconstructions=reconstructions, counts=subjects[0].metrics.counts)


def collect(subjects: Sequence[Subject[Any, Any]], unreadable: list[str]) -> Evaluation:
    """The results of all subjects by log key.

    Raises:
        DataError: no image was evaluated on any rank.
    """
    results = {subject.prefix: subject.metrics.compute() for subject in subjects}
    unreadable = over_ranks(unreadable)
    if not any(card["n"] for result in results.values() for card in result.cards.values()):
        raise DataError(None, f"no evaluation image could be read; left out: {', '.join(unreadable[:10])}", "data")
    return Evaluation(
        values={f"{prefix}/{name}": value for prefix, result in results.items() for name, value in result.values.items()},
        cards={f"{prefix}/{name}": card for prefix, result in results.items() for name, card in result.cards.items()},
        skipped={name: skipped for result in results.values() for name, skipped in result.skipped.items()},
        unreadable=unreadable,
    )


def over_ranks(names: list[str]) -> list[str]:
    """The names of all ranks in order; every rank must call it."""
    if not is_distributed():
        return names
    shares: list[list[str]] = [[] for _ in range(world_size())]
    torch.distributed.all_gather_object(shares, names)
    return sorted(name for share in shares for name in share)
