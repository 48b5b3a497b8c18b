"""Pictures that are tokenized while a generator trains: new crops in every epoch, at the price of an encoder in every step."""

from functools import cached_property
from typing import Any, Literal

from experiments.data.source import Example, ImageSource, Unreadable
from experiments.runs.models import digest_of, load_tokenizer
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import ImageBatch, TokenSpec


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

    def contents(self) -> dict[str, str]:
        """The images, and the tokenizer."""
        return {"data": self.fingerprint(), "tokenizer": self.made_with["digest"]}

    @cached_property
    def encoder(self) -> ImageTokenizer:
        """The tokenizer, in eval mode on the CPU."""
        return load_tokenizer(self.tokenizer, self.weights)[0]

    @property
    def tokens(self) -> TokenSpec:
        """Sizes of the tokens of one image."""
        return self.encoder.tokens(self.image_size, len(self.classes or []))

    @cached_property
    def made_with(self) -> dict[str, Any]:
        """Folder, digest and weights of the tokenizer."""
        return {"folder": self.tokenizer, "digest": digest_of(self.encoder), "weights": self.weights}
