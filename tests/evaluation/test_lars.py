"""LARS against steps computed by hand."""

import pytest
import torch
from torch import nn

from experiments.evaluation.linear import LARS


def stepped(values, gradients, **settings):
    """A parameter after a step for each gradient."""
    parameter = nn.Parameter(torch.tensor(values))
    optimizer = LARS([parameter], **settings)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    return parameter.detach()


def test_a_matrix_moves_by_its_own_length_times_trust():
    """|w| = 5 and |g| = 0.5: the gradient is scaled by 0.01 * 5 / 0.5 = 0.1, twice with momentum 0.5 at learning rate 2."""
    settings = {"learning_rate": 2.0, "momentum": 0.5, "trust": 0.01}
    once = stepped([[3.0, 4.0]], [[[0.3, 0.4]]], **settings)
    torch.testing.assert_close(once, torch.tensor([[3.0 - 2 * 0.03, 4.0 - 2 * 0.04]]))
    # Then |w| = 4.9 and |g| = 0.7, scaled by 0.07: (0.049, 0) behind half of (0.03, 0.04).
    twice = stepped([[3.0, 4.0]], [[[0.3, 0.4]], [[0.7, 0.0]]], **settings)
    torch.testing.assert_close(twice, torch.tensor([[2.94 - 2 * (0.015 + 0.049), 3.92 - 2 * 0.02]]))


def test_a_bias_moves_by_its_gradient_alone():
    assert stepped([3.0, 4.0], [[0.3, 0.4]], learning_rate=2.0, trust=0.01, weight_decay=1.0).tolist() == pytest.approx([2.4, 3.2])


def test_decay_is_part_of_the_gradient_that_is_scaled():
    """g + 0.1 w = (0.6, 0.8) has length 1, w has 5: scaled by 0.05."""
    after = stepped([[3.0, 4.0]], [[[0.3, 0.4]]], learning_rate=1.0, trust=0.01, weight_decay=0.1)
    torch.testing.assert_close(after, torch.tensor([[3.0 - 0.03, 4.0 - 0.04]]))


def test_weights_of_zero_move_by_the_plain_gradient():
    assert stepped([[0.0, 0.0]], [[[0.3, 0.4]]], learning_rate=1.0).flatten().tolist() == pytest.approx([-0.3, -0.4])


def test_a_momentum_of_one_is_refused():
    with pytest.raises(ValueError, match=r"momentum=1\.0"):
        LARS([nn.Parameter(torch.zeros(1))], learning_rate=1.0, momentum=1.0)
