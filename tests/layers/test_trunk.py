"""Trunks against plain loops over their blocks, with and without recomputed activations."""

import pytest
import torch
from torch import Tensor, nn

from tokenizer.layers.llama import LlamaBlock
from tokenizer.layers.rope import grid_rotation
from tokenizer.layers.trunk import Trunk, recompute_activations

WIDTH, HEADS, GRID = 16, 2, (2, 3)


def make_trunk(depth: int = 3, dropout: float = 0.2) -> Trunk:
    torch.manual_seed(0)
    trunk = Trunk([LlamaBlock(WIDTH, HEADS, dropout) for _ in range(depth)])
    trunk.reset_parameters()
    return trunk


def inputs() -> tuple[Tensor, Tensor | None]:
    features = torch.randn(2, 6, WIDTH, generator=torch.Generator().manual_seed(1))
    return features.requires_grad_(), grid_rotation(GRID, WIDTH // HEADS, 0, torch.device("cpu"))


@pytest.mark.parametrize("recompute", [False, True])
def test_outputs_taps_and_gradients_are_those_of_a_loop_to_the_bit(recompute):
    trunk, blocks, (features, rotation) = make_trunk(), make_trunk(), inputs()
    recompute_activations(nn.ModuleList([trunk]), recompute)
    hooked: list[Tensor] = []
    trunk[1].register_forward_hook(lambda block, args, output: hooked.append(output))
    torch.manual_seed(2)
    actual, tapped = trunk(features, rotation, taps=(2,))
    assert list(tapped) == [2]
    assert tapped[2] is hooked[0]
    gradients = torch.autograd.grad(actual.square().mean() + tapped[2].mean(), [features, *trunk.parameters()])

    torch.manual_seed(2)
    second = blocks[1](blocks[0](features, rotation), rotation)
    expected = blocks[2](second, rotation)
    assert torch.equal(actual, expected)
    assert torch.equal(tapped[2], second)
    references = torch.autograd.grad(expected.square().mean() + second.mean(), [features, *blocks.parameters()])
    for gradient, reference in zip(gradients, references, strict=True):
        assert torch.equal(gradient, reference)


def stored_bytes(trunk: Trunk, features: Tensor, rotation: Tensor | None) -> int:
    """Bytes of the tensors stored for a backward pass, without parameters."""
    parameters = {parameter.data_ptr() for parameter in trunk.parameters()}
    stored: dict[int, int] = {}

    def store(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in parameters:
            stored[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor):
        trunk(features, rotation)
    return sum(stored.values())


def test_recomputing_stores_little_more_than_the_inputs_of_the_blocks():
    trunk, (features, rotation) = make_trunk(depth=4, dropout=0.0), inputs()
    plain = stored_bytes(trunk, features, rotation)
    trunk.recompute = True
    assert stored_bytes(trunk, features, rotation) < plain / 5


def test_state_dict_names_are_those_of_a_list_and_a_slice_shares_its_blocks():
    trunk = make_trunk()
    assert set(trunk.state_dict()) == set(nn.ModuleList(list(trunk)).state_dict())
    part = trunk[:2]
    assert isinstance(part, Trunk)
    assert part[1] is trunk[1]


def test_resetting_on_a_materialized_trunk_draws_what_a_built_one_has():
    with torch.device("meta"):
        trunk = Trunk([LlamaBlock(WIDTH, HEADS, 0.0) for _ in range(2)])
    trunk.to_empty(device="cpu")
    torch.manual_seed(3)
    trunk.reset_parameters()
    built = Trunk([LlamaBlock(WIDTH, HEADS, 0.0) for _ in range(2)])
    torch.manual_seed(3)
    built.reset_parameters()
    for name, value in built.state_dict().items():
        assert torch.equal(trunk.state_dict()[name], value), name


@pytest.mark.parametrize("tap", [0, 4])
def test_a_block_that_does_not_exist_is_refused(tap):
    trunk, (features, rotation) = make_trunk(), inputs()
    with pytest.raises(ValueError, match=f"taps={tap}, expected a block, 1 to 3"):
        trunk(features, rotation, taps=(tap,))
