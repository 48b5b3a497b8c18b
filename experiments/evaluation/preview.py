"""Samples of a generator during training, the same ones every time."""

from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from experiments.config.command_line import is_first_process
from experiments.evaluation.samples import generate_images, sample_grid
from tokenizer.generators.sampling import Sampling
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import Generator


class SamplePreview:
    """A few samples, spread over all classes in their order."""

    def __init__(self, tokenizer: ImageTokenizer, source: Any, count: int, seed: int) -> None:
        """
        Args:
            tokenizer: decoder of the samples, in eval mode.
            source: data of the generator, with `tokens` and `classes`.
            count: number of samples.
            seed: seed of the choices.
        """
        self.tokenizer, self.source, self.count, self.seed = tokenizer, source, count, seed

    @cached_property
    def labels(self) -> list[int]:
        """Label of each sample."""
        return [number * self.source.tokens.num_classes // self.count for number in range(self.count)]

    def generate(self, generator: Generator, device: torch.device) -> Tensor:
        """(count, 3, H, W) in [0, 1] on the CPU; empty on every process but the first."""
        if not self.labels or not is_first_process():
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
