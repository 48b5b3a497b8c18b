"""From labels to images: indices of a generator through the decoder of its tokenizer."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from experiments.data.transforms import to_bytes
from experiments.evaluation.figures import captioned_rows
from experiments.evaluation.metrics.samples import SampleMetrics
from experiments.evaluation.sample_file import sample_file
from tokenizer.generators.sample import IndexSampler
from tokenizer.generators.sampling import Sampling, uniforms
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import Generator, TokenLayout
from tokenizer.layers.precision import full_precision_unless_autocast

COLUMNS = 8  # of a grid of samples whose classes were drawn


def draw_labels(n: int, classes: Sequence[int] | None, num_classes: int, seed: int) -> Tensor:
    """The label of every sample, (n,) int64.

    Args:
        classes: classes to take in turn; None draws each label uniformly from all, by seed and sample number alone.
        num_classes: number of classes of the generator; without classes the label is 0.
    """
    if classes is not None:
        return torch.tensor([classes[number % len(classes)] for number in range(n)])
    if num_classes == 0:
        return torch.zeros(n, dtype=torch.int64)
    drawn = np.concatenate([uniforms(seed, number, 1, "labels") for number in range(n)])
    return torch.from_numpy((drawn * num_classes).astype(np.int64))


def describe_classes(n: int, classes: Sequence[int] | None, num_classes: int) -> str:
    """How `draw_labels` chooses the classes of `n` samples, for cards."""
    if num_classes == 0:
        return "none"
    if classes is None:
        return f"drawn uniformly from {num_classes}"
    least, rest = divmod(n, len(classes))
    number = f"{least} or {least + 1}" if rest else str(least)
    return f"{len(classes)} of {num_classes} in turn, {number} of each"


def generate_images(
    generator: Generator,
    tokenizer: ImageTokenizer,
    labels: Tensor,
    numbers: Tensor,
    sampling: Sampling,
    layout: TokenLayout,
    device: torch.device,
    batch_size: int,
    after_step: Callable[[int], None] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Samples in batches: indices (B, N, G) and images (B, 3, H, W) in [0, 1], both on the device.

    Args:
        generator: on the device.
        tokenizer: decoder of its indices; on the device, in eval mode.
        labels: (n,) int64.
        numbers: (n,) int64 sample numbers; a sample depends on its number, its label and the seed, not on its batch.
        batch_size: samples at a time.
        after_step: called after every step with its number of new tokens, of all samples of the batch together.

    Raises:
        ValueError: a label out of range, or logits that are not finite.
    """
    sampler = IndexSampler(generator, sampling)
    for label, number in zip(torch.split(labels, batch_size), torch.split(numbers, batch_size), strict=True):
        count = len(label)
        advance = None if after_step is None else lambda tokens, count=count: after_step(tokens * count)
        indices = sampler(label.to(device), number, advance)
        with torch.no_grad(), full_precision_unless_autocast(device):  # not around the yield: it would hold for the caller
            images = tokenizer.decode_indices(indices, layout).float().clamp(-1, 1).add(1).div(2)
        yield indices, images


def pixels(images: Tensor) -> NDArray[np.uint8]:
    """(B, 3, H, W) in [0, 1] to (B, H, W, 3), rounded."""
    array: NDArray[np.uint8] = to_bytes(images).permute(0, 2, 3, 1).cpu().numpy()
    return array


def write_samples(
    batches: Iterable[tuple[Tensor, Tensor]], labels: Tensor, file: Path | None, count: int, metrics: SampleMetrics | None
) -> Tensor:
    """Write the batches of `generate_images` with their labels (n,), and update metrics, batch by batch.

    Returns:
        The first (min(n, count), 3, H, W) in [0, 1] on the CPU.
    """
    preview: list[Tensor] = []
    seen = 0
    with ExitStack() as stack:
        samples = None if file is None else stack.enter_context(sample_file(file, labels.numpy()))
        for _, images in batches:
            if samples is not None:
                samples.write(pixels(images))
            if metrics is not None:
                metrics.update(images, labels[seen : seen + len(images)])
            preview.append(images[: max(count - seen, 0)].cpu())
            seen += len(images)
    return torch.cat(preview)


def sample_grid(images: Tensor, labels: Sequence[int], names: Sequence[str], by_class: bool) -> Image.Image:
    """A grid of samples: a row for each class, or rows of eight in order.

    Args:
        images: (n, 3, H, W) in [0, 1], n > 0.
        names: names of all classes; empty if there are none.
        by_class: a row for each class, in order of first appearance.
    """
    images = images.float().cpu() * 2 - 1
    if by_class:
        return captioned_rows({names[label]: images[[other == label for other in labels]] for label in labels})
    rows: dict[str, Tensor] = {}
    for start in range(0, len(labels), COLUMNS):
        row = images[start : start + COLUMNS]
        drawn = ", ".join(names[label] for label in labels[start : start + COLUMNS] if names)
        rows[f"{start} - {start + len(row) - 1}" + f": {drawn}" * bool(drawn)] = row
    return captioned_rows(rows)


class SamplePreview:
    """A few samples of a generator during training, the same ones every time, spread over all classes in their order.

    Args:
        tokenizer: decoder of the samples, in eval mode.
        source: data of the generator, with `tokens` and `classes`.
        count: number of samples.
        seed: seed of the choices.
    """

    def __init__(self, tokenizer: ImageTokenizer, source: Any, count: int, seed: int) -> None:
        self.tokenizer, self.source, self.count, self.seed = tokenizer, source, count, seed
        self.labels = [number * source.tokens.num_classes // count for number in range(count)]

    def generate(self, generator: Generator, device: torch.device) -> Tensor:
        """(count, 3, H, W) in [0, 1] on the CPU. Every process must call it: a step of a sharded generator needs all of them."""
        if not self.labels:
            return torch.empty(0)
        batches = generate_images(
            generator,
            self.tokenizer.to(device),
            torch.tensor(self.labels),
            torch.arange(self.count),
            Sampling(seed=self.seed),
            self.source.tokens.layout,
            device,
            batch_size=self.count,
        )
        return torch.cat([images.cpu() for _, images in batches])

    def figure(self, images: Tensor) -> Image.Image:
        """The samples with their classes."""
        names = self.source.classes or [str(label) for label in range(self.source.tokens.num_classes)]
        return sample_grid(images, self.labels, names, by_class=False)
