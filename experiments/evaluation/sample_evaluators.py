"""Evaluators of samples: the Inception network with statistics of real images, and the classifier that some data has."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from experiments.data.digits import Digits
from experiments.data.loading import ImageData
from experiments.data.source import ImageSource
from experiments.evaluation.metrics.digits_classifier import DigitsClassifier, digits_classifier
from experiments.evaluation.metrics.inception import Inception
from experiments.evaluation.metrics.reference import FOLDER, ReferenceStatistics, cached_reference
from experiments.evaluation.metrics.samples import SampleMetrics
from experiments.evaluation.results import Skipped
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import TokenizerOutput
from tokenizer.weights import MissingWeightsError, sha256


@dataclass
class SampleEvaluators:
    """Evaluators of the samples of one tokenizer, each made when it is first needed and used for one set of samples after another.

    Without both source and reference only the inception score is left.
    """

    source: ImageSource | None  # real images; its evaluation images are the reference unless there is a file
    reference: Path | None  # npz file of ADM's evaluation
    tokenizer: ImageTokenizer  # decoder of the samples, on the device
    device: torch.device
    batch_size: int  # images of the reference at a time
    workers: int  # processes that read them
    folder: Path = FOLDER  # of reference statistics

    @cached_property
    def classifier(self) -> DigitsClassifier | None:
        """The classifier of digits, None for other data."""
        return digits_classifier(self.source, self._reconstruct) if isinstance(self.source, Digits) else None

    @torch.no_grad()
    def _reconstruct(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] on the CPU, to the same."""
        output: TokenizerOutput = self.tokenizer(images.to(self.device) * 2 - 1)
        return output.decoder.reconstruction.float().clamp(-1, 1).add(1).div(2).cpu()

    @cached_property
    def inception(self) -> Inception | MissingWeightsError:
        """The network, or the reason why it is absent.

        Raises:
            ValueError: its file is damaged.
        """
        try:
            return Inception(self.device)
        except MissingWeightsError as error:
            return error

    @cached_property
    def statistics(self) -> ReferenceStatistics | None:
        """Statistics of the real images.

        Raises:
            ValueError: the reference cannot be used.
        """
        network, source, reference = self.inception, self.source, self.reference
        assert isinstance(network, Inception)
        if reference is not None:
            return cached_reference(sha256(reference), network, lambda: ReferenceStatistics.from_npz(reference, network), self.folder)
        if source is None:
            return None
        loader = ImageData(source, self.batch_size, seed=0, workers=self.workers).val_dataloader()  # in order, without random numbers
        contents = f"{source.fingerprint()} val"
        return cached_reference(contents, network, lambda: ReferenceStatistics.from_images(loader, network, source.reference), self.folder)

    def metrics(self, image_size: int, subject: str, seed: int, guidance: float | str | None, classes: str) -> SampleMetrics:
        """New running metrics; the arguments are for the cards, see `Card`.

        Raises:
            MissingWeightsError: Inception's weights are not on this machine, and the data has no classifier.
            ValueError: the reference cannot be used.
        """
        network, classifier = self.inception, self.classifier
        transform = "not recorded" if self.source is None else self.source.transform
        fields = {"subject": subject, "seed": seed, "guidance": guidance, "classes": classes, "transform": transform}
        if not isinstance(network, MissingWeightsError):
            return SampleMetrics(network, self.statistics, classifier, image_size, fields)
        if classifier is None:
            raise network
        return SampleMetrics(Skipped(str(network), network.name), None, classifier, image_size, fields)
