"""Training a generator: the likelihood of the indices of pictures, given their classes.

Papers: Sun et al. 2024, arXiv:2406.06525; Xiong et al. 2025, arXiv:2504.08736, supplement (optimizer, schedule, no averaged weights).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from experiments.data.transforms import normalize
from experiments.training.clock import ClockedTask
from experiments.training.ema import ExponentialMovingAverage
from experiments.training.finite import FiniteCheck
from experiments.training.optimizers import AdamW
from experiments.training.reading import means_over_ranks
from experiments.training.schedules import Schedule
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import Generator, ImageBatch, TokenBatch
from tokenizer.layers.frozen import Frozen
from tokenizer.layers.precision import full_precision


class GeneratorTask(ClockedTask):
    """A generator and, where averaged weights are asked for, its averaged copy.

    A batch holds indices, or pictures that a frozen tokenizer turns into indices first: see `encode_with`.
    """

    generator: Generator
    encoder: Frozen | None
    _parts: list[Tensor]

    def __init__(
        self,
        generator: Callable[[], Generator],
        optimizer: AdamW,
        schedule: Schedule,
        updates: int,
        accumulate: int,
        ema_decay: float,
        seed: int,
    ) -> None:
        """Keep the factory; nothing is built before `configure_model`.

        Args:
            generator: builds it.
            optimizer: of the generator.
            schedule: of its learning rate.
            updates: of the whole run.
            accumulate: parts that a batch is computed in.
            ema_decay: of the averaged weights, 0 for none.
            seed: of all noise inside a step.

        Raises:
            ValueError: a length that is neither a fraction nor a number of updates.
        """
        super().__init__([optimizer], [schedule], updates, accumulate, ema_decay, seed)
        self.factory = generator
        self.encoder = None
        self._parts = []

    def configure_model(self) -> None:
        """Build the generator; Lightning may call it twice."""
        if hasattr(self, "generator"):
            return
        self.generator = self.factory()
        self.average = None
        if self.ema_decay:
            copy = self.factory()
            copy.load_state_dict(self.generator.state_dict())
            self.average = ExponentialMovingAverage(copy, self.ema_decay)
        self.finite = FiniteCheck(("nll",))

    def encode_with(self, tokenizer: ImageTokenizer) -> None:
        """Take over a trained tokenizer for batches of pictures; it is not trained, averaged or saved."""
        self.encoder = Frozen(tokenizer)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimizer."""
        return self.optimizer_settings[0].build(self.generator.parameters())

    @property
    def trained(self) -> Generator:
        """The generator."""
        return self.generator

    def training_step(self, batch: TokenBatch | ImageBatch, batch_idx: int) -> None:
        """The gradient of the mean nats of a token; every `accumulate` batches one step."""
        self.seed_noise()
        self.finite.watch(self.updates + 1, batch.keys)
        nll = self.generator.nll(self.as_tokens(batch)).sum(-1).mean()
        self.manual_backward(nll / self.accumulate)
        self.batches += 1
        self._parts.append(nll.detach())
        if not self.step_complete:
            return
        mean, self._parts = torch.stack(self._parts).mean(), []
        norms, _ = self.step({"nll": mean})
        if self.logs_at(self.updates):
            self.finite.verify()
            self.report_step(means_over_ranks({"train/loss/nll": mean, "train/gradient_norm/generator": norms[0]}), len(batch.keys))

    @torch.no_grad()
    def as_tokens(self, batch: TokenBatch | ImageBatch) -> TokenBatch:
        """A batch of indices; pictures are tokenized here, in fp32 whatever the trainer's precision."""
        if isinstance(batch, TokenBatch):
            return batch
        if self.encoder is None:
            raise ValueError("a batch of pictures needs a tokenizer; choose data=indices or data=online")
        with full_precision(self.device):
            output, layout = self.encoder.network.encode(normalize(batch.images.to(self.device)))  # type: ignore[operator]
        return TokenBatch(output.indices, batch.labels, layout, batch.keys)
