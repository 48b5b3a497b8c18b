"""Images that are tokenized while a generator trains: new crops in every epoch, at the cost of an encoder in every step."""

from functools import cached_property
from typing import Any, Literal

from experiments.config.errors import ConfigError, config_errors
from experiments.data.source import Example, ImageSource, Unreadable
from experiments.evaluation.subjects import require_num_tokens
from experiments.runs.models import digest_of, load_tokenizer
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import ImageBatch, TokenSpec


class OnlineTokens(ImageSource):
    """Images for a generator; batches are `ImageBatch`, the task encodes them on its device.

    Attributes:
        images: source of the images.
        tokenizer: folder of the tokenizer.
        weights: which weights of a run folder.
        num_tokens: number of tokens that the encoder keeps; None for its own number.
    """

    def __init__(
        self, images: ImageSource, tokenizer: str, weights: Literal["ema", "raw"], num_classes: int, num_tokens: int | None = None
    ) -> None:
        """
        Args:
            images: source of the images.
            tokenizer: a run folder, or a folder written by `python -m experiments.export`.
            weights: the averaged or the trained weights of a run folder.
            num_classes: number of classes of the images, which the configuration needs before they are read; 0 without labels.
            num_tokens: number of tokens that the encoder keeps; None for its own number.

        Raises:
            ConfigError: the images have another number of classes.
        """
        count = len(images.classes or [])
        if count != num_classes:
            advice = f"set data.num_classes={count}"
            raise ConfigError("data.num_classes", num_classes, expected=f"{count}, the number of classes of these images", advice=advice)
        self.images = images
        self.tokenizer = tokenizer
        self.weights = weights
        self.num_tokens = num_tokens
        self.image_size = images.image_size
        self.classes = images.classes
        self.train = images.train
        self.val = images.val
        self.transform = images.transform
        self.reference = images.reference

    def fingerprint(self) -> str:
        return self.images.fingerprint()

    def unreadable(self) -> list[str]:
        return self.images.unreadable()

    def collate(self, examples: list[Example | Unreadable]) -> ImageBatch:
        return self.images.collate(examples)

    def contents(self) -> dict[str, str]:
        """Digests of the images and of the tokenizer."""
        return {"data": self.fingerprint(), "tokenizer": self.made_with["digest"]}

    @cached_property
    def encoder(self) -> ImageTokenizer:
        """The tokenizer, in eval mode on the CPU."""
        return load_tokenizer(self.tokenizer, self.weights, "data.tokenizer")[0]

    @cached_property
    def tokens(self) -> TokenSpec:
        """Sizes of the tokens of one image.

        Raises:
            ConfigError: the image size does not fit, or the encoder cannot keep `num_tokens`.
        """
        counts = [] if self.num_tokens is None else [self.num_tokens]
        with config_errors("data.tokenizer"):
            tokens = self.encoder.tokens(self.image_size, len(self.classes or []), counts)
        require_num_tokens(self.encoder, self.image_size, counts, "data.num_tokens")
        return tokens

    @cached_property
    def made_with(self) -> dict[str, Any]:
        """Folder, digest and weights of the tokenizer."""
        return {"folder": self.tokenizer, "digest": digest_of(self.encoder), "weights": self.weights}
