"""Evaluators of samples: feature networks with statistics of real images, and the classifier that some data has."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from experiments.data.digits import Digits
from experiments.data.loading import ImageData
from experiments.data.source import ImageSource
from experiments.evaluation.metrics import SAMPLE_METRICS
from experiments.evaluation.metrics.adm_file import IMAGES, AdmFile
from experiments.evaluation.metrics.digits_classifier import DigitsClassifier, digits_classifier
from experiments.evaluation.metrics.inception import FeatureExtractor
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
    def networks(self) -> dict[str, FeatureExtractor | Skipped]:
        """The network of each metric by name, or the reason why it is absent.

        Raises:
            ValueError: the file of one is damaged.
        """
        networks: dict[str, FeatureExtractor | Skipped] = {}
        for metric in SAMPLE_METRICS:
            if metric.network and metric.network not in networks:
                try:
                    networks[metric.network] = metric.load_extractor(self.device)
                except MissingWeightsError as error:
                    networks[metric.network] = Skipped(str(error), error.name)
        return networks

    @cached_property
    def references(self) -> dict[str, ReferenceStatistics | Skipped]:
        """Statistics of the real images by each network that is present, or the reason why there are none.

        Raises:
            ValueError: the reference cannot be used.
        """
        present = {name: network for name, network in self.networks.items() if not isinstance(network, Skipped)}
        return {name: self._reference(name, network) for name, network in present.items()}

    @property
    def absent(self) -> dict[str, Skipped]:
        """Networks without which, or without whose reference, there is no distance; empty of those that can be used."""
        both = {**self.references, **{name: network for name, network in self.networks.items() if isinstance(network, Skipped)}}
        return {name: each for name, each in both.items() if isinstance(each, Skipped)}

    def _reference(self, name: str, network: FeatureExtractor) -> ReferenceStatistics | Skipped:
        source, file = self.source, self.reference
        if file is not None and name == "inception":
            return cached_reference(sha256(file), network, lambda: ReferenceStatistics.from_npz(file, network), self.folder)
        if file is not None and IMAGES not in AdmFile(file).names:
            return Skipped(f"{file.name} has no images, and its statistics are those of Inception")
        if file is not None:
            return cached_reference(sha256(file), network, lambda: ReferenceStatistics.from_images_of_npz(file, network), self.folder)
        if source is None:
            return Skipped("there are no reference statistics")
        loader = ImageData(source, self.batch_size, seed=0, workers=self.workers).val_dataloader()  # in order, without random numbers
        contents = f"{source.fingerprint()} val"
        return cached_reference(contents, network, lambda: ReferenceStatistics.from_images(loader, network, source.reference), self.folder)

    def metrics(self, image_size: int, subject: str, seed: int, guidance: float | str | None, classes: str) -> SampleMetrics:
        """New running metrics; the arguments are for the cards, see `Card`.

        Raises:
            MissingWeightsError: no weights of a feature network are on this machine, and the data has no classifier.
            ValueError: the reference cannot be used.
        """
        transform = "not recorded" if self.source is None else self.source.transform
        fields = {"subject": subject, "seed": seed, "guidance": guidance, "classes": classes, "transform": transform}
        missing = [network for network in self.networks.values() if isinstance(network, Skipped)]
        if self.classifier is None and len(missing) == len(self.networks):
            raise MissingWeightsError(missing[0].reason, missing[0].weights)
        return SampleMetrics(self.networks, self.references, self.classifier, image_size, fields)
