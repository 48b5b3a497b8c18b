"""The averaged copy against a calculation by hand."""

import pytest
import torch
from torch import nn

from experiments.config.errors import ConfigError
from experiments.training.ema import ExponentialMovingAverage


def test_floats_follow_with_the_ramp_and_integers_are_copied():
    module, copy = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    average = ExponentialMovingAverage(copy, decay=0.9)
    expected = 1.0
    for update in range(1, 40):
        module.weight.data.fill_(float(update))
        module.num_batches_tracked.fill_(update)
        average.update(module, update)
        decay = min(0.9, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * update
    assert average.module.weight[0].item() == pytest.approx(expected, rel=1e-5)
    assert average.module.num_batches_tracked.item() == 39


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_of_another_float_type_is_followed_in_it(dtype):
    module = nn.Linear(1, 1).to(dtype)
    module.weight.data.fill_(1.0)
    average = ExponentialMovingAverage(module, decay=0.5)
    module.weight.data.fill_(2.0)
    average.update(module, 100)
    assert (average.module.weight.dtype, average.module.weight.item()) == (dtype, 1.5)


def test_the_copy_is_seen_by_nothing_that_walks_the_module():
    average = ExponentialMovingAverage(nn.Linear(2, 2), decay=0.9)
    assert list(average.parameters()) == []
    assert average.state_dict() == {}
    assert average.to(torch.float64).module.weight.dtype == torch.float64


def test_its_state_goes_back_and_forth():
    average = ExponentialMovingAverage(nn.Linear(2, 2), decay=0.9)
    other = ExponentialMovingAverage(nn.Linear(2, 2), decay=0.9)
    other.load_averaged_state(average.averaged_state())
    assert torch.equal(other.module.weight, average.module.weight)


def test_a_decay_out_of_range_is_refused():
    with pytest.raises(ConfigError, match="ema_decay=1"):
        ExponentialMovingAverage(nn.Linear(2, 2), decay=1)
