"""Labels to indices: `generator.start`, then `generator.step` until all tokens are drawn. Each sample has its own random stream.

With guidance each sample takes two rows, one with its label and one with the null class, and both receive the same choices. Rows for
the null class are computed only if the scale of some token differs from 1.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from tokenizer.generators.cuda_graphs import GraphedSteps
from tokenizer.generators.sampling import GuidedPick, Sampling, token_seeds
from tokenizer.interfaces import Generator
from tokenizer.layers.checks import require_labels

Mode = Literal["auto", "eager", "graph"]


def generate_indices(
    generator: Generator,
    labels: Tensor,
    sampling: Sampling,
    numbers: Tensor | None = None,
    after_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Indices of one sample for each label; for several batches use one `IndexSampler`.

    Args:
        generator: generator, on the device of the labels.
        labels: (B,) int64 in 0 .. num_classes; the last one is the null class.
        sampling: guidance, filters and seed.
        numbers: (B,) int64, sample numbers, which select the random streams; 0 .. B - 1 by default. A sample depends on its label, its
            number and the seed, not on its batch.
        after_step: called after every step with the number of tokens drawn for each sample.

    Returns:
        (B, N, G) int64 in [0, V).

    Raises:
        ValueError: a label is out of range, or logits are not finite.
    """
    return IndexSampler(generator, sampling)(labels, numbers, after_step)


class IndexSampler:
    """`generate_indices` for many batches; CUDA graphs are reused for batches of the same size.

    Args:
        generator: generator; in eval mode during calls.
        sampling: guidance, filters and seed.
        mode: eager calls the generator for every step, graph replays CUDA graphs; auto uses graphs on a GPU if the generator's state
            supports them.
    """

    def __init__(self, generator: Generator, sampling: Sampling, mode: Mode = "auto") -> None:
        self.generator = generator
        self.sampling = sampling
        self.mode = mode
        self.scales = sampling.guidance.scales(generator.tokens.num_tokens)
        self.guided = any(scale != 1 for scale in self.scales)
        self.graphs: GraphedSteps | None = None

    def __call__(self, labels: Tensor, numbers: Tensor | None = None, after_step: Callable[[int], None] | None = None) -> Tensor:
        """(B,) labels to (B, N, G) indices; see `generate_indices`."""
        numbers = torch.arange(len(labels)) if numbers is None else numbers
        self._check(labels, numbers)
        was_training = self.generator.training
        self.generator.eval()
        try:
            with torch.inference_mode():
                indices = self._draw(labels, numbers, after_step)
        finally:
            self.generator.train(was_training)
        return indices.clone()  # outside of inference mode, for use in autograd

    def _check(self, labels: Tensor, numbers: Tensor) -> None:
        require_labels(labels, self.generator.null_label)
        if labels.shape != numbers.shape or numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
            raise ValueError(
                f"sample numbers are {tuple(numbers.shape)} of {numbers.dtype}, expected {len(labels)} integers, one per label"
            )

    def _draw(self, labels: Tensor, numbers: Tensor, after_step: Callable[[int], None] | None) -> Tensor:
        num_tokens, heads = self.generator.tokens.num_tokens, self.generator.heads
        rows = torch.cat([labels, torch.full_like(labels, self.generator.null_label)]) if self.guided else labels
        seeds = token_seeds(self.sampling.seed, numbers.tolist(), num_tokens, len(heads)).to(labels.device)
        scales = torch.tensor(self.scales, dtype=torch.float64, device=labels.device) if self.guided else None
        step, pick = self._prepare(self.generator.start(rows), GuidedPick(self.sampling, seeds, scales))
        parts: list[Tensor] = []
        count = 0
        while count < num_tokens:
            parts.append(step()[: len(labels)].clone())
            count += parts[-1].shape[1]
            if after_step is not None:
                after_step(parts[-1].shape[1])
        if not pick.all_finite:
            self.graphs = None  # their cache has values that are not finite
            raise ValueError("the generator's logits are not finite; is it trained, and is its precision wide enough?")
        return torch.cat(parts, dim=1)

    def _prepare(self, state: Any, pick: GuidedPick) -> tuple[Callable[[], Tensor], GuidedPick]:
        """The function that makes one step, and the pick that it uses."""
        step = partial(_step, self.generator, state, pick)
        if self.mode == "graph" and torch.is_autocast_enabled(pick.seeds.device.type):
            raise ValueError("mode=graph under autocast: it would free weights that a graph uses; change the generator's dtype")
        if self.mode == "eager" or (self.mode == "auto" and not self._recordable(state, pick)):
            return step, pick
        if self.graphs is not None and self.graphs.pick.seeds.shape == pick.seeds.shape:
            self.graphs.load_(state, pick)
        else:
            self.graphs = GraphedSteps(step, state, pick)
        return self.graphs, self.graphs.pick

    def _recordable(self, state: Any, pick: GuidedPick) -> bool:
        """Whether a step can be recorded: on a GPU, by a state that supports it, outside of autocast, with all weights on one device."""
        device = pick.seeds.device.type
        if device != "cuda" or torch.is_autocast_enabled(device) or not hasattr(state, "load_"):
            return False
        from torch.distributed.tensor import DTensor  # takes most of a second

        return not any(isinstance(parameter, DTensor) for parameter in self.generator.parameters())


def _step(generator: Generator, state: Any, pick: GuidedPick) -> Tensor:
    indices = generator.step(state, pick)
    pick.position += indices.shape[1]
    return indices
