"""Pictures that are tokenized while a generator trains: new crops in every epoch, at the price of an encoder in every step."""

from typing import Literal

from experiments.data.source import Example, ImageSource, Reconstruct, Unreadable
from experiments.evaluation.metrics.judge import Judge
from tokenizer.interfaces import ImageBatch


class OnlineTokens(ImageSource):
    """Pictures for a generator; batches are `ImageBatch`, the task encodes them on its device.

    Attributes:
        images: where the pictures come from.
        tokenizer: folder of the tokenizer.
        weights: of a run folder, the averaged or the trained ones.
    """

    def __init__(self, images: ImageSource, tokenizer: str, weights: Literal["ema", "raw"], num_classes: int) -> None:
        """
        Args:
            images: a source of pictures.
            tokenizer: a run folder, or a folder written by `python -m experiments.export`.
            weights: of a run folder, the averaged or the trained ones.
            num_classes: of the pictures, which a configuration says before they are looked at; 0 without labels.

        Raises:
            ValueError: the pictures have another number of classes.
        """
        found = len(images.classes or [])
        if found != num_classes:
            raise ValueError(f"data.num_classes={num_classes}: these pictures have {found} classes; set data.num_classes={found}")
        self.images = images
        self.tokenizer = tokenizer
        self.weights = weights
        self.image_size = images.image_size
        self.classes = images.classes
        self.train = images.train
        self.val = images.val
        self.transform = images.transform
        self.reference = images.reference

    def fingerprint(self) -> str:
        return self.images.fingerprint()

    def collate(self, examples: list[Example | Unreadable]) -> ImageBatch:
        return self.images.collate(examples)

    def judge(self, reconstruct: Reconstruct | None = None) -> Judge | None:
        return self.images.judge(reconstruct)
