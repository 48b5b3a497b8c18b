"""Everything that can be said of samples: Inception's metrics against real pictures, and what the data itself offers."""

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from experiments.data.digits import Digits
from experiments.data.loading import ImageData
from experiments.data.source import ImageSource
from experiments.evaluation.metrics.digits import DigitsJudge, DigitsMetrics, Reconstruct, digits_judge
from experiments.evaluation.metrics.generation import GenerationMetrics, all_skipped
from experiments.evaluation.metrics.inception import Inception
from experiments.evaluation.metrics.reference import FOLDER, ReferenceStatistics, cached_reference
from experiments.evaluation.results import Results, Skipped, joined
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import TokenizerOutput
from tokenizer.weights import MissingWeightsError, sha256


class SampleMetrics:
    """Running metrics of samples, of all kinds that there are."""

    def __init__(self, inception: GenerationMetrics | None, of_data: DigitsMetrics | None, absent: Results) -> None:
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
        return joined([self.absent, *(part.compute() for part in (self.inception, self.of_data) if part is not None)])


class SampleJudges:
    """What judges the samples of one tokenizer, made when it is first needed and then kept, as one set of samples follows another."""

    def __init__(
        self,
        source: ImageSource | None,
        reference: Path | None,
        tokenizer: ImageTokenizer,
        device: torch.device,
        batch_size: int,
        workers: int,
        folder: Path = FOLDER,
    ) -> None:
        """
        Args:
            source: real pictures of their kind: its evaluation pictures are the reference unless there is a file; None for none.
            reference: an npz file of ADM's evaluation; None for none. Without both only the inception score is left.
            tokenizer: that decodes the samples, on the device.
            device: where to compute.
            batch_size: pictures of the reference at a time.
            workers: processes that read them.
            folder: of reference statistics.
        """
        self.source, self.reference, self.tokenizer = source, reference, tokenizer
        self.device, self.batch_size, self.workers, self.folder = device, batch_size, workers, folder

    @cached_property
    def of_data(self) -> DigitsJudge | None:
        """The evaluator that the data itself offers: a classifier for digits, None for other data."""
        return digits_judge(self.source, reconstructing(self.tokenizer, self.device)) if isinstance(self.source, Digits) else None

    @cached_property
    def inception(self) -> Inception | MissingWeightsError:
        """The network, or why it is not there.

        Raises:
            ValueError: its file is damaged.
        """
        try:
            return Inception(self.device)
        except MissingWeightsError as error:
            return error

    @cached_property
    def statistics(self) -> ReferenceStatistics | None:
        """Of the real pictures.

        Raises:
            ValueError: the reference cannot be used.
        """
        network, source, reference = self.inception, self.source, self.reference
        assert isinstance(network, Inception)
        if reference is not None:
            return cached_reference(sha256(reference), network, lambda: ReferenceStatistics.from_npz(reference, network), self.folder)
        if source is None:
            return None
        loader = ImageData(source, self.batch_size, seed=0, workers=self.workers).val_dataloader()  # which draws nothing
        contents = f"{source.fingerprint()} val"
        return cached_reference(contents, network, lambda: ReferenceStatistics.from_images(loader, network, source.reference), self.folder)

    def metrics(self, image_size: int, subject: str, seed: int, guidance: float | str | None) -> SampleMetrics:
        """New running metrics; the arguments are for the cards, see `Card`.

        Raises:
            MissingWeightsError: Inception's weights are not on this machine, and the data has no judge of its own.
            ValueError: the reference cannot be used.
        """
        of_data = None if self.of_data is None else self.of_data.metrics(image_size, subject, seed, guidance)
        if isinstance(self.inception, MissingWeightsError):
            if of_data is None:
                raise self.inception
            return SampleMetrics(None, of_data, all_skipped(Skipped(str(self.inception), self.inception.name)))
        transform = "not recorded" if self.source is None else self.source.transform
        metrics = GenerationMetrics(self.inception, self.statistics, image_size, subject, seed, guidance, transform)
        return SampleMetrics(metrics, of_data, Results())


def reconstructing(tokenizer: ImageTokenizer, device: torch.device) -> Reconstruct:
    """What a tokenizer makes of pictures: (B, 3, H, W) in [0, 1] on the CPU to the same."""

    @torch.no_grad()
    def reconstruct(images: Tensor) -> Tensor:
        output: TokenizerOutput = tokenizer(images.to(device) * 2 - 1)
        return output.decoder.reconstruction.float().clamp(-1, 1).add(1).div(2).cpu()

    return reconstruct
