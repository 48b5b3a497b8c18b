"""The training of a tokenizer: its parts meet, its reconstructions are judged and shown."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from PIL import Image

from experiments.data.loading import ImageData
from experiments.data.source import ImageSource
from experiments.evaluation.cards import describe_losses
from experiments.evaluation.figures import comparison
from experiments.evaluation.reconstruction import Evaluation, evaluate
from experiments.runs import build
from experiments.training.base_training import Training
from experiments.training.tokenizer_task import TokenizerTask

log = logging.getLogger(__name__)


class TokenizerTraining(Training):
    """See `Training`. The discriminator takes no part in the tokenizer's backward pass, and the other way round."""

    idle_parameters = True

    def __init__(self, config: Mapping[str, Any], source: ImageSource) -> None:
        """Train with `config`, resolved, on `source`.

        Raises:
            ValueError: the source has no pictures.
        """
        if not isinstance(source, ImageSource):
            raise ValueError(
                f"data.file={config['data'].get('file')}: a tokenizer learns from pictures; choose other `data`, or task=generator"
            )
        self.config = config
        self.source = source

    def check_sizes(self) -> None:
        """The discriminator sees a picture, too."""
        with torch.device("meta"):
            tokenizer = build.build(self.config["task"]["tokenizer"])
            discriminator = build.build(self.config["task"]["discriminator"])
            tokenizer.grid(self.source.image_size)
            if discriminator is not None:
                discriminator(torch.empty(2, 3, self.source.image_size, self.source.image_size))

    def contents(self) -> dict[str, str | None]:
        """The pictures."""
        return {"data": self.source.fingerprint()}

    def prepare(self, task: TokenizerTask) -> None:
        """Let the losses meet the quantizer over two tokens: not every quantizer has what every loss asks for, or the other way round."""
        quantizer = task.tokenizer.quantizer
        with torch.no_grad():
            output = quantizer.eval()(torch.randn(1, 2, quantizer.latent_dim))
            task.objective.quantizer_terms(output, quantizer)
        quantizer.train()
        for name in task.objective.idle_weights(set(output.losses)):
            log.info("loss.weights.%s has no effect: this quantizer has no such term", name)
        for name in ("adversarial", "lecam", "gradient_penalty"):
            if task.discriminator is None and task.objective.weights.get(name):
                log.info("loss.weights.%s has no effect: there is no discriminator", name)

    def described(self, task: TokenizerTask) -> dict[str, Any]:
        """What a generator has to know of its tokens."""
        tokens = task.tokenizer.tokens(self.source.image_size, len(self.source.classes or []))
        return {"tokens": asdict(tokens), "classes": self.source.classes}

    def summarize(self, task: TokenizerTask) -> None:
        """Parameters, codes and bits."""
        parts = {"encoder": task.tokenizer.encoder, "quantizer": task.tokenizer.quantizer, "decoder": task.tokenizer.decoder}
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
        if task.discriminator is not None:
            counts["discriminator"] = sum(p.numel() for p in task.discriminator.parameters())
        log.info("parameters: %s", ", ".join(f"{name} {count / 1e6:.3f} M" for name, count in counts.items()))
        quantizer = task.tokenizer.quantizer
        log.info("codebook_size %d, groups %d, %.1f bits per token", quantizer.codebook_size, quantizer.groups, quantizer.bits_per_token)

    def judge(self, task: TokenizerTask, data: ImageData) -> Callable[[], Evaluation]:
        """Both tokenizers see the same evaluation pictures."""
        losses, seed = describe_losses(self.config["task"]), self.config["seed"]
        average = build.subject("val", task.average_tokenizer, self.source, seed, "ema", losses)
        trained = build.subject("val_raw", task.tokenizer, self.source, seed, "raw", losses, same_images_as=average.metrics)
        return lambda: evaluate([average, trained], data.val_dataloader(), task.device)

    def draw(self, evaluation: Evaluation) -> Image.Image:
        """Originals, reconstructions and errors."""
        return comparison(evaluation.images, evaluation.reconstructions)
