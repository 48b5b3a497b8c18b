"""Generation steps as CUDA graphs: at a batch size of one, the hundreds of kernel launches of a step take far longer than its kernels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tokenizer.generators.sampling import GuidedPick


class GraphedSteps:
    """Replays a step as CUDA graphs, one for each visible length; the first step of each length runs eagerly, the second is recorded.

    Graphs read and write the tensors that they were recorded with. The next batch of the same size is therefore copied into them with
    `load_`.

    Args:
        step: one step of `state` with `pick`, (R, n, G). It updates tensors in place and reads none on the host.
        state: state of the generator. `visible_length` is equal for steps that run the same kernels, `count_replay()` updates
            host-side counts after a replay, and `load_(state)` copies another state of the same shape.
        pick: sampling function.
    """

    def __init__(self, step: Callable[[], Tensor], state: Any, pick: GuidedPick) -> None:
        self.step = step
        self.state = state
        self.pick = pick
        self.seen: set[int] = set()
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self.pool: Any = None

    def load_(self, state: Any, pick: GuidedPick) -> None:
        """Start another batch of the same size."""
        self.state.load_(state)
        self.pick.load_(pick)

    def __call__(self) -> Tensor:
        """(R, n, G), overwritten by the next call."""
        key = self.state.visible_length
        if key in self.graphs:
            graph, indices = self.graphs[key]
            graph.replay()
            self.state.count_replay()
            return indices
        if key not in self.seen:
            self.seen.add(key)
            return self.step()
        graph = torch.cuda.CUDAGraph()
        # In the default mode, an allocation of any other thread, such as a loader's that pins memory, would end the recording.
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            indices = self.step()
        graph.replay()  # recording runs nothing on the device
        self.pool = graph.pool()  # shared by all graphs: they run in turn, and their output is copied before the next one
        self.graphs[key] = graph, indices
        return indices
