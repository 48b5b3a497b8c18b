"""One way to judge tokenizers: while training, after it, and by `python -m experiments.evaluate`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.data.transforms import normalize
from experiments.evaluation.results import Skipped
from experiments.evaluation.subjects import Subject
from tokenizer.interfaces import ImageBatch
from tokenizer.layers.distributed import is_distributed, sum_over_ranks, world_size


@dataclass(frozen=True)
class Evaluation:
    """Results by log key, their cards, what was left out and why, and some pictures.

    Attributes:
        images: that were judged; of a generator, samples.
        reconstructions: of the images by the first subject; empty for samples.
        counts: (G, V) int64, how often the first subject chose each code of each group; None where codes are not counted.
    """

    values: dict[str, float]
    cards: dict[str, dict[str, Any]]
    skipped: dict[str, Skipped]
    unreadable: list[str]
    images: Tensor
    reconstructions: Tensor
    counts: Tensor | None


class Sample:
    """A few pictures for the eye, spread over a set of unknown size: every `stride`-th, and the stride doubles as the set grows."""

    def __init__(self, count: int) -> None:
        """Show at most `count`; up to twice as many are kept meanwhile."""
        self.count = count
        self.stride = 1
        self.seen = 0
        self.kept: list[tuple[Tensor, Tensor]] = []

    def add(self, images: Tensor, reconstructions: Tensor) -> None:
        """Look at a batch (B, 3, H, W)."""
        for row in range(-self.seen % self.stride, len(images), self.stride):
            self.kept.append((images[row].cpu(), reconstructions[row].cpu()))
        self.seen += len(images)
        while len(self.kept) > 2 * self.count:
            self.kept = self.kept[::2]
            self.stride *= 2

    def pictures(self) -> tuple[Tensor, Tensor]:
        """Images and reconstructions on the CPU, both (n, 3, H, W), n at most `count`; empty if none was seen."""
        chosen = torch.linspace(0, len(self.kept) - 1, min(self.count, len(self.kept))).round().int().tolist()
        columns = [[self.kept[place][side] for place in chosen] for side in (0, 1)]
        images, reconstructions = (torch.stack(column) if column else torch.empty(0) for column in columns)
        return images, reconstructions


@torch.no_grad()
def evaluate(subjects: list[Subject], batches: Iterable[ImageBatch], device: torch.device, shown: int = 8) -> Evaluation:
    """Run all subjects over the same pictures.

    Args:
        subjects: what is judged; each is in eval mode meanwhile.
        batches: uint8 images.
        device: where the models are.
        shown: how many pictures to keep for the eye, spread over the set.

    Raises:
        ValueError: no picture could be read.
    """
    were_training = [subject.model.training for subject in subjects]
    sample = Sample(shown)
    unreadable: list[str] = []
    for subject in subjects:
        subject.model.eval()
        subject.metrics.reset()
    for batch in batches:
        pixels = normalize(batch.images.to(device))
        unreadable += batch.left_out
        if len(pixels) == 0:
            continue
        outputs = [subject.model(pixels) for subject in subjects]
        for subject, output in zip(subjects, outputs, strict=True):
            subject.metrics.update(pixels, output)
        sample.add(pixels, outputs[0].decoder.reconstruction)
    for subject, training in zip(subjects, were_training, strict=True):
        subject.model.train(training)
    results = {subject.prefix: subject.metrics.compute() for subject in subjects}
    unreadable = over_ranks(unreadable)
    if not any(card["n"] for result in results.values() for card in result.cards.values()):
        raise ValueError(f"no evaluation picture of this data could be read; left out: {', '.join(unreadable[:10])}; change `data`")
    images, reconstructions = sample.pictures()
    codebook = subjects[0].metrics.codebook
    return Evaluation(
        values={f"{prefix}/{name}": value for prefix, result in results.items() for name, value in result.values.items()},
        cards={f"{prefix}/{name}": card for prefix, result in results.items() for name, card in result.cards.items()},
        skipped={name: why for result in results.values() for name, why in result.skipped.items()},
        unreadable=unreadable,
        images=images,
        reconstructions=reconstructions,
        counts=None if codebook is None else sum_over_ranks(codebook.counts.clone()),
    )


def over_ranks(names: list[str]) -> list[str]:
    """The names of all ranks in order; every rank must call it."""
    if not is_distributed():
        return names
    shares: list[list[str]] = [[] for _ in range(world_size())]
    torch.distributed.all_gather_object(shares, names)
    return sorted(name for share in shares for name in share)
