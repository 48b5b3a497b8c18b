import copy

import torch
from torch import nn

from tokenizer.layers.frozen import Frozen


def frozen_linear() -> Frozen:
    torch.manual_seed(0)
    return Frozen(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))


def test_a_frozen_network_is_hidden_from_everything_that_looks_for_weights():
    owner = nn.ModuleDict({"frozen": frozen_linear()})
    assert list(owner.parameters()) == []
    assert list(owner.buffers()) == []
    assert owner.state_dict() == {}
    assert [type(module) for module in owner.modules()] == [nn.ModuleDict, Frozen]


def test_a_frozen_network_stays_in_eval_mode_and_needs_no_gradient():
    frozen = frozen_linear().train()
    assert not any(module.training for module in frozen.network.modules())
    assert not any(parameter.requires_grad for parameter in frozen.network.parameters())


def test_gradients_pass_through_a_frozen_network_to_its_input():
    frozen = frozen_linear()
    inputs = torch.randn(4, 3, requires_grad=True)
    frozen(inputs)[:, 0].sum().backward()
    expected = frozen.network[0].weight[0] / (1 + 1e-5) ** 0.5  # a fresh batch norm in eval mode
    torch.testing.assert_close(inputs.grad, expected.expand(4, 3))


def test_a_frozen_network_follows_its_owner_to_another_type():
    owner = nn.ModuleDict({"frozen": frozen_linear()})
    before = owner["frozen"].network[0].weight.clone()
    owner.to(torch.float64)
    assert owner["frozen"].network[0].weight.dtype == torch.float64
    assert owner["frozen"].network[1].running_mean.dtype == torch.float64
    assert owner["frozen"].network[1].num_batches_tracked.dtype == torch.int64
    torch.testing.assert_close(owner["frozen"].network[0].weight, before.double())


def test_filling_a_meta_module_with_empty_memory_keeps_the_frozen_weights():
    owner = nn.ModuleDict({"frozen": frozen_linear()})
    before = owner["frozen"].network[0].weight.clone()
    owner.to_empty(device="cpu")
    assert torch.equal(owner["frozen"].network[0].weight, before)
    owner.to("meta")
    assert torch.equal(owner["frozen"].network[0].weight, before)


def test_a_copy_of_a_frozen_network_has_its_own_weights():
    frozen = frozen_linear()
    copied = copy.deepcopy(frozen)
    assert copied.network is not frozen.network
    assert torch.equal(copied.network[0].weight, frozen.network[0].weight)


def test_meta_tensors_give_meta_outputs_and_the_weights_stay_on_their_device():
    frozen = frozen_linear()
    answer = frozen(torch.empty(4, 3, device="meta"))
    assert (answer.shape, answer.device.type) == ((4, 2), "meta")
    assert frozen.network[0].weight.device.type == frozen(torch.ones(4, 3)).device.type == "cpu"
