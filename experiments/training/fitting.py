"""Whether a checkpoint is one of this task: checked before anything of it is loaded."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from experiments.config.errors import TesseraError
from experiments.runs.checkpoints import STATE


class OtherModelError(TesseraError):
    """A checkpoint of another model than the one that is trained; `part` is the part of the checkpoint that differs."""

    def __init__(self, part: str, reason: str) -> None:
        self.part, self.reason = part, reason
        super().__init__(f"the checkpoint is of another model: its {part} {reason}")


def require_fit(checkpoint: Mapping[str, Any], task: nn.Module, average: nn.Module | None, optimizers: Sequence[Any]) -> None:
    """Compare names and sizes in a checkpoint with those of a task.

    Args:
        checkpoint: content of the file, whole tensors.
        task: module whose tensors it holds; sharded ones have the size of the whole.
        average: module of the averaged weights, None for none.
        optimizers: optimizers of the task, in order.

    Raises:
        OtherModelError: they differ.
    """
    _require_tensors(checkpoint["state_dict"], task.state_dict(), "state_dict")
    stored = checkpoint[STATE]["average"]
    if (stored is None) != (average is None):
        raise OtherModelError("average", "is absent" if stored is None else "is there, and this task has none")
    if average is not None:
        _require_tensors(stored, average.state_dict(), "average")
    states = checkpoint["optimizer_states"]
    if len(states) != len(optimizers):
        raise OtherModelError("optimizer_states", f"are of {len(states)} optimizers, expected {len(optimizers)}")
    for number, (state, optimizer) in enumerate(zip(states, optimizers, strict=True)):
        parameters = [[parameter.shape for parameter in group["params"]] for group in optimizer.param_groups]
        if [len(group["params"]) for group in state["param_groups"]] != [len(group) for group in parameters]:
            raise OtherModelError(f"optimizer_states.{number}", "has other groups of parameters")
        shapes = dict(enumerate(shape for group in parameters for shape in group))
        for place, moments in state["state"].items():
            wrong = [name for name, value in moments.items() if value.ndim and value.shape != shapes[place]]
            if wrong:
                raise OtherModelError(f"optimizer_states.{number}", f"holds {', '.join(wrong)} of another size for parameter {place}")


def _require_tensors(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor], part: str) -> None:
    differing = sorted({*stored} ^ {*expected}) or [name for name in expected if stored[name].shape != expected[name].shape]
    if differing:
        raise OtherModelError(part, f"differs in {', '.join(differing[:5])}{' ...' if len(differing) > 5 else ''}")
