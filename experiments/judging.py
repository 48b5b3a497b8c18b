"""Everything that can be said of samples: Inception's metrics against real pictures, and what the data itself offers."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from experiments.data.loading import ImageData
from experiments.data.source import ImageSource, Reconstruct
from experiments.metrics.generation import GenerationMetrics, all_skipped
from experiments.metrics.inception import Inception
from experiments.metrics.judge import LabelledMetrics
from experiments.metrics.reference import ReferenceStatistics, cached_reference
from experiments.metrics.results import Results
from tokenizer.generators.settings import Sampling
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import TokenizerOutput
from tokenizer.weights import MissingWeightsError, sha256


class SampleMetrics:
    """Running metrics of samples, of all kinds that there are."""

    def __init__(self, inception: GenerationMetrics | None, of_data: LabelledMetrics | None, absent: Results) -> None:
        """Join the two; `absent` says what is left out."""
        self.inception = inception
        self.of_data = of_data
        self.absent = absent

    def update(self, images: Tensor, labels: Tensor) -> None:
        """Add (B, 3, H, W) images in [0, 1] with the (B,) labels that were asked for.

        They are rounded to 8 bits, as in the files of pictures that published numbers are computed from: with few or small pictures
        a Fréchet distance notices.
        """
        images = (images * 255).round() / 255
        if self.inception is not None:
            self.inception.update(images)
        if self.of_data is not None:
            self.of_data.update(images, labels)

    def compute(self) -> Results:
        """All metrics of the samples so far."""
        joined = Results(skipped=dict(self.absent.skipped))
        for part in (self.inception, self.of_data):
            if part is not None:
                found = part.compute()
                joined.values |= found.values
                joined.cards |= found.cards
                joined.skipped |= found.skipped
        return joined


def reconstructing(tokenizer: ImageTokenizer, device: torch.device) -> Reconstruct:
    """What a tokenizer makes of pictures: (B, 3, H, W) in [0, 1] on the CPU to the same."""

    @torch.no_grad()
    def reconstruct(images: Tensor) -> Tensor:
        output: TokenizerOutput = tokenizer(images.to(device) * 2 - 1)
        return output.decoder.reconstruction.float().clamp(-1, 1).add(1).div(2).cpu()

    return reconstruct


def sample_metrics(
    source: ImageSource | None,
    reference: Path | None,
    tokenizer: ImageTokenizer,
    image_size: int,
    subject: Literal["ema", "raw"],
    sampling: Sampling,
    device: torch.device,
    batch_size: int,
    workers: int,
) -> SampleMetrics:
    """What judges samples.

    Args:
        source: real pictures of their kind: its evaluation pictures are the reference unless there is a file; None for none.
        reference: an npz file of ADM's evaluation; None for none. Without both only the inception score is left.
        tokenizer: that decodes the samples, on the device.
        image_size: side in pixels.
        subject: which weights generate.
        sampling: for the cards.
        device: of Inception.
        batch_size: pictures of the reference at a time.
        workers: processes that read them.

    Raises:
        MissingWeightsError: Inception's weights are not on this machine, and the data has no judge of its own.
        ValueError: the reference cannot be used.
    """
    judge = None if source is None else source.judge(reconstructing(tokenizer, device))
    of_data = None if judge is None else judge.metrics(image_size, subject, sampling.seed, sampling.summary)
    try:
        network = Inception(device)
    except MissingWeightsError as error:
        if of_data is None:
            raise
        return SampleMetrics(None, of_data, all_skipped(str(error)))
    statistics: ReferenceStatistics | None = None
    if reference is not None:
        statistics = cached_reference(sha256(reference), network, lambda: ReferenceStatistics.from_npz(reference, network))
    elif source is not None:
        loader = ImageData(source, batch_size, sampling.seed, workers).val_dataloader()
        contents = f"{source.fingerprint()} val"
        statistics = cached_reference(contents, network, lambda: ReferenceStatistics.from_images(loader, network, source.reference))
    transform = "not recorded" if source is None else source.transform
    metrics = GenerationMetrics(network, statistics, image_size, subject, sampling.seed, sampling.summary, transform)
    return SampleMetrics(metrics, of_data, Results())
