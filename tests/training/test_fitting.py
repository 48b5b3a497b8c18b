"""Checkpoints of other models are refused before anything of them is loaded, and the part that differs is named."""

import pytest
import torch

from experiments.runs.checkpoints import STATE
from experiments.training.fitting import OtherModelError, require_fit


def made():
    """A model with moments of one step, its average, its optimizer, and their checkpoint."""
    model, average = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW([{"params": [model.weight]}, {"params": [model.bias]}])
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint = {"state_dict": model.state_dict(), "optimizer_states": [optimizer.state_dict()], STATE: {"average": average.state_dict()}}
    return checkpoint, model, average, [optimizer]


def test_a_checkpoint_of_the_same_model_is_accepted():
    require_fit(*made())


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda checkpoint: checkpoint["state_dict"].pop("bias"), "state_dict"),
        (lambda checkpoint: checkpoint["state_dict"].update(more=torch.ones(1)), "state_dict"),
        (lambda checkpoint: checkpoint["state_dict"].update(bias=torch.ones(3)), "state_dict"),
        (lambda checkpoint: checkpoint[STATE].update(average=None), "average"),
        (lambda checkpoint: checkpoint[STATE]["average"].update(weight=torch.ones(3, 2)), "average"),
        (lambda checkpoint: checkpoint["optimizer_states"].clear(), "optimizer_states"),
        (lambda checkpoint: checkpoint["optimizer_states"][0]["param_groups"].pop(), "optimizer_states.0"),
        (lambda checkpoint: checkpoint["optimizer_states"][0]["state"][1].update(exp_avg=torch.ones(5)), "optimizer_states.0"),
    ],
)
def test_the_part_that_differs_is_named(change, part):
    checkpoint, *rest = made()
    change(checkpoint)
    with pytest.raises(OtherModelError) as caught:
        require_fit(checkpoint, *rest)
    assert caught.value.part == part


def test_a_checkpoint_with_an_average_does_not_fit_a_task_without_one():
    checkpoint, model, _, optimizers = made()
    with pytest.raises(OtherModelError) as caught:
        require_fit(checkpoint, model, None, optimizers)
    assert caught.value.part == "average"
