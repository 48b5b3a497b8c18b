"""Labels to indices: start, then a loop of step and pick. Every sample has a random stream of its own.

With guidance each sample is two rows, one with its label and one with the null class, which are given the same choices; rows for the
null class are computed only if some token is guided. On a GPU a step is a CUDA graph: at a batch of one its hundreds of launches
would take many times as long as reading the weights.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from tokenizer.generators.sampling import Sampling, choose, guided, probabilities, token_uniforms
from tokenizer.interfaces import Generator

Mode = Literal["eager", "graph", "compiled"]


def generate_indices(generator: Generator, labels: Tensor, numbers: Tensor, sampling: Sampling) -> Tensor:
    """Indices of one sample for every label; see `IndexSampler`.

    Args:
        generator: on the device of the labels.
        labels: (B,) int64 in 0 .. num_classes; the last one is the null class.
        numbers: (B,) int64, the number of each sample, which names its random stream.
        sampling: how choices are drawn.

    Returns:
        (B, N, G) int64 in [0, V).

    Raises:
        ValueError: a label out of range, or logits that are not finite.
    """
    return IndexSampler(generator, sampling)(labels, numbers)


class IndexSampler:
    """Draws batches of indices, and keeps a recorded step for the next batch of the same size."""

    def __init__(self, generator: Generator, sampling: Sampling, mode: Mode | None = None) -> None:
        """Draw from `generator`.

        Args:
            generator: in eval mode meanwhile.
            sampling: how choices are drawn.
            mode: eager, a Python call a step; graph, a recorded CUDA graph a step; compiled, by torch.compile, and recorded if on
                a GPU, which takes a minute at first. None is graph on a GPU and eager elsewhere.
        """
        self.generator = generator
        self.sampling = sampling
        self.mode = mode
        self.scales = sampling.guidance.scales(generator.tokens.num_tokens)
        self.guided = any(scale != 1 for scale in self.scales)
        self.advance = torch.compile(_advance, dynamic=False) if mode == "compiled" else _advance
        self._recorded: tuple[Any, GuidedPick, list[RecordedStep]] | None = None

    def __call__(self, labels: Tensor, numbers: Tensor, after_step: Callable[[int], None] | None = None) -> Tensor:
        """(B,) labels and sample numbers to (B, N, G) indices; `after_step` is told how many tokens each step made of each sample."""
        self._check(labels, numbers)
        was_training = self.generator.training
        self.generator.eval()
        try:
            with torch.inference_mode():
                indices, sound = self._draw(labels, numbers.tolist(), after_step)
        finally:
            self.generator.train(was_training)
        if not sound:
            raise ValueError("the generator's logits are not finite; is it trained, and is its precision wide enough?")
        return indices.clone()  # an ordinary tensor, which may take part in training

    def _check(self, labels: Tensor, numbers: Tensor) -> None:
        last = self.generator.null_label
        if len(labels) == 0 or labels.shape != numbers.shape:
            raise ValueError(
                f"{tuple(labels.shape)} labels and {tuple(numbers.shape)} sample numbers: expected as many of both, one at least"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high > last:
            wrong = low if low < 0 else high
            raise ValueError(f"label {wrong}: expected 0 to {last - 1}, or {last} for no class")

    def _draw(self, labels: Tensor, numbers: Sequence[int], after_step: Callable[[int], None] | None) -> tuple[Tensor, bool]:
        tokens = self.generator.tokens
        rows = torch.cat([labels, torch.full_like(labels, self.generator.null_label)]) if self.guided else labels
        uniforms = token_uniforms(self.sampling.seed, numbers, tokens.num_tokens, len(self.generator.heads)).to(labels.device)
        scales = torch.tensor(self.scales, dtype=torch.float64, device=labels.device) if self.guided else None
        pick, steps = self._prepare(self.generator.start(rows), GuidedPick(self.sampling, uniforms, scales))
        made: list[Tensor] = []
        while (count := sum(part.shape[1] for part in made)) < tokens.num_tokens:
            made.append(steps[min(count, 1)]()[: len(labels)].clone())
            if after_step is not None:
                after_step(made[-1].shape[1])
        return torch.cat(made, dim=1), bool(pick.sound)

    def _prepare(self, state: Any, pick: "GuidedPick") -> "tuple[GuidedPick, Sequence[Callable[[], Tensor]]]":
        """The pick in use, the step of the first token and the step of all others."""
        step = partial(self.advance, self.generator, state, pick)
        if self.mode == "eager" or not pick.uniforms.is_cuda:
            return pick, [step, step]
        if self._recorded is not None and self._recorded[1].uniforms.shape == pick.uniforms.shape:
            # A recording reads and writes the tensors that it was made with.
            for old, new in zip(_tensors(self._recorded[:2]), _tensors((state, pick)), strict=True):
                old.copy_(new)
        else:
            self._recorded = (state, pick, [RecordedStep(step), RecordedStep(step)])
        return self._recorded[1], self._recorded[2]


class GuidedPick:
    """The sampling function of one batch. All that changes from token to token is in tensors, so that a recorded step reads it anew."""

    def __init__(self, sampling: Sampling, uniforms: Tensor, scales: Tensor | None) -> None:
        """Choose with `uniforms` (B, N, S); with `scales` (N,) of guidance the rows are B conditional and B unconditional ones."""
        self.sampling = sampling
        self.uniforms = uniforms
        self.scales = scales
        self.position = torch.zeros(1, dtype=torch.int64, device=uniforms.device)
        self.sound = torch.ones((), dtype=torch.bool, device=uniforms.device)

    def __call__(self, logits: Tensor, sub_token: int) -> Tensor:
        """(R, n, K) logits of a sub-token to choices (R, n)."""
        tokens = self.position + torch.arange(logits.shape[1], device=logits.device)
        if self.scales is not None:
            conditional, unconditional = logits.chunk(2)
            logits = guided(conditional, unconditional, self.scales.index_select(0, tokens)[:, None])
        self.sound.logical_and_(logits.amax(-1).isfinite().all())
        uniform = self.uniforms[:, :, sub_token].index_select(1, tokens)
        choices = choose(probabilities(logits, self.sampling), uniform)
        return choices if self.scales is None else torch.cat([choices, choices])


class RecordedStep:
    """A step as a CUDA graph. The first calls run as they are, which warms up; the next one is recorded, and then only replayed.

    It needs a step that keeps all its state in tensors, changes them in place, and never asks the device for a value. Recording
    runs nothing, so the call that records replays at once.
    """

    WARM_UP = 2

    def __init__(self, step: Callable[[], Tensor]) -> None:
        """Record `step`, when it is called."""
        self.step = step
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.output: Tensor | None = None

    def __call__(self) -> Tensor:
        """What `step` returns; overwritten by the next call."""
        if self.graph is None and self.calls < self.WARM_UP:
            self.calls += 1
            return self.step()
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.output = self.step()
        self.graph.replay()
        assert self.output is not None
        return self.output


def _advance(generator: Generator, state: Any, pick: GuidedPick) -> Tensor:
    """One step of the generator, (R, n, G)."""
    indices = generator.step(state, pick)
    pick.position.add_(indices.shape[1])
    return indices


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in containers, dataclasses and picks, in a fixed order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, GuidedPick):
        yield from _tensors(vars(value))
    elif is_dataclass(value) and not isinstance(value, type):
        for entry in fields(value):
            yield from _tensors(getattr(value, entry.name))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)
