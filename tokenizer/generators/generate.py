"""Labels to indices: start, then a loop of step and pick. Every sample has a random stream of its own.

With guidance each sample is two rows, one with its label and one with the null class, which are given the same choices; rows for the
null class are computed only if some token is guided. On a GPU the steps are recorded as CUDA graphs: at a batch of one the hundreds
of launches of a step take many times as long as reading the weights.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from tokenizer.generators.sampling import Sampling, choose, filtered, guided, token_seeds
from tokenizer.interfaces import Generator

Mode = Literal["auto", "eager", "graph"]


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
    """Draws batches of indices, and keeps its recorded steps for the next batch of the same size."""

    def __init__(self, generator: Generator, sampling: Sampling, mode: Mode = "auto") -> None:
        """Draw from `generator`.

        Args:
            generator: in eval mode meanwhile.
            sampling: how choices are drawn.
            mode: eager, a Python call a step; graph, recorded CUDA graphs; auto, graphs on a GPU if the generator's state is `Recordable`.
        """
        self.generator = generator
        self.sampling = sampling
        self.mode = mode
        self.scales = sampling.guidance.scales(generator.tokens.num_tokens)
        self.guided = any(scale != 1 for scale in self.scales)
        self._recorded: RecordedSteps | None = None

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
        seeds = token_seeds(self.sampling.seed, numbers, tokens.num_tokens, len(self.generator.heads)).to(labels.device)
        scales = torch.tensor(self.scales, dtype=torch.float64, device=labels.device) if self.guided else None
        steps = self._steps(self.generator.start(rows), GuidedPick(self.sampling, seeds, scales))
        made: list[Tensor] = []
        while sum(part.shape[1] for part in made) < tokens.num_tokens:
            made.append(steps()[: len(labels)].clone())
            if after_step is not None:
                after_step(made[-1].shape[1])
        return torch.cat(made, dim=1), bool(steps.pick.sound)

    def _steps(self, state: Any, pick: "GuidedPick") -> "Steps":
        if self.mode == "eager" or (self.mode == "auto" and not (pick.seeds.is_cuda and isinstance(state, Recordable))):
            return Steps(self.generator, state, pick)
        if self._recorded is not None and self._recorded.pick.seeds.shape == pick.seeds.shape:
            self._recorded.restart(state, pick)
        else:
            self._recorded = RecordedSteps(self.generator, state, pick)
        return self._recorded


class GuidedPick:
    """The sampling function of one batch. All that changes from token to token is in tensors, so that a recorded step reads it anew."""

    def __init__(self, sampling: Sampling, seeds: Tensor, scales: Tensor | None) -> None:
        """Choose with `seeds` (B, N, S); with `scales` (N,) of guidance the rows are B conditional and B unconditional ones."""
        self.sampling = sampling
        self.seeds = seeds
        self.scales = scales
        self.position = torch.zeros(1, dtype=torch.int64, device=seeds.device)
        self.sound = torch.ones((), dtype=torch.bool, device=seeds.device)

    def __call__(self, logits: Tensor, sub_token: int) -> Tensor:
        """(R, n, K) logits of a sub-token to choices (R, n)."""
        tokens = self.position + torch.arange(logits.shape[1], device=logits.device)
        if self.scales is not None:
            conditional, unconditional = logits.chunk(2)
            logits = guided(conditional, unconditional, self.scales.index_select(0, tokens)[:, None])
        self.sound.logical_and_(logits.amax(-1).isfinite().all())
        seeds = self.seeds[:, :, sub_token].index_select(1, tokens)
        choices = choose(filtered(logits, self.sampling), seeds)
        return choices if self.scales is None else torch.cat([choices, choices])


@runtime_checkable
class Recordable(Protocol):
    """A state whose steps can be recorded: all that changes is in tensors that are written in place, but for what `replayed` counts."""

    @property
    def window(self) -> int:
        """Steps with equal windows do the same on the device."""

    def replayed(self) -> None:
        """Count, on the host, a step that a recording has made on the device."""


class Steps:
    """The steps of one batch."""

    def __init__(self, generator: Generator, state: Any, pick: GuidedPick) -> None:
        """Go on from `state`."""
        self.generator = generator
        self.state = state
        self.pick = pick

    def __call__(self) -> Tensor:
        """The next step of the generator, (R, n, G)."""
        indices = self.generator.step(self.state, self.pick)
        self.pick.position.add_(indices.shape[1])
        return indices


class RecordedSteps(Steps):
    """The same as CUDA graphs, one for each window. The first step of a window runs as it is, the second is recorded.

    Recording runs nothing on the device, so what is recorded is replayed at once, and from there on.
    """

    def __init__(self, generator: Generator, state: Any, pick: GuidedPick) -> None:
        """Go on from `state`, which is `Recordable`."""
        super().__init__(generator, state, pick)
        self.seen: set[int] = set()
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self.pool: Any = None

    def restart(self, state: Any, pick: GuidedPick) -> None:
        """Begin another batch of the same size: recordings read and write the tensors that they were made with."""
        _take_over(self.state, state)
        _take_over(self.pick, pick)

    def __call__(self) -> Tensor:
        """(R, n, G), overwritten by the next call."""
        window = self.state.window
        if window in self.graphs:
            graph, output = self.graphs[window]
            graph.replay()
            self.state.replayed()
            return output
        if window not in self.seen:
            self.seen.add(window)
            return super().__call__()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            output = super().__call__()
        graph.replay()
        self.pool = graph.pool()  # one for all graphs: they run in turn, and what they return is copied before the next
        self.graphs[window] = graph, output
        return output


def _take_over(old: Any, new: Any) -> None:
    """Give `old` the values of `new`, its tensors in place; likewise for the objects that are its attributes."""
    for name, value in vars(new).items():
        current = getattr(old, name)
        if isinstance(value, Tensor):
            current.copy_(value)
        elif hasattr(value, "__dict__") and value is not current:
            _take_over(current, value)
        else:
            setattr(old, name, value)
