"""Blocks of vision transformers against torch's own attention and hand-made cases."""

import pytest
import torch
from torch import nn

from tokenizer.layers.vit import Attention, QueryBlock, ViTBlock, resize_positions

WIDTH, HEADS = 16, 4


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair() -> tuple[Attention, nn.MultiheadAttention]:
    """Both with the same weights."""
    torch.manual_seed(0)
    ours, theirs = Attention(WIDTH, HEADS), nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    with torch.no_grad():
        for mine, other in (
            (ours.qkv.weight, theirs.in_proj_weight),
            (ours.qkv.bias, theirs.in_proj_bias),
            (ours.out.weight, theirs.out_proj.weight),
            (ours.out.bias, theirs.out_proj.bias),
        ):
            mine.copy_(torch.randn(mine.shape) / 4)
            other.copy_(mine)
    return ours, theirs


def test_attention_is_torchs_with_positions_added_to_queries_and_keys():
    ours, theirs = pair()
    x, p = drawn(2, 5, WIDTH, seed=1), drawn(5, WIDTH, seed=2)
    torch.testing.assert_close(ours(x, p), theirs(x + p, x + p, x)[0])
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0])


def test_attention_to_a_memory_is_torchs():
    ours, theirs = pair()
    x, p, memory, q = drawn(2, 5, WIDTH, seed=1), drawn(5, WIDTH, seed=2), drawn(2, 7, WIDTH, seed=3), drawn(7, WIDTH, seed=4)
    torch.testing.assert_close(ours(x, p, memory, q), theirs(x + p, memory + q, memory)[0])
    torch.testing.assert_close(ours(x, None, memory), theirs(x, memory, memory)[0])


def test_values_do_not_depend_on_positions():
    """With weights of zero for queries and keys every token is the mean of all values."""
    ours, _ = pair()
    with torch.no_grad():
        ours.qkv.weight[: 2 * WIDTH] = 0
    x = drawn(1, 6, WIDTH, seed=1)
    assert torch.equal(ours(x, drawn(6, WIDTH, seed=2)), ours(x))


def test_blocks_are_residual_and_leave_the_memory_as_it_is():
    x, p, memory, q = drawn(2, 5, WIDTH, seed=1), drawn(5, WIDTH, seed=2), 100 * drawn(2, 7, WIDTH, seed=3), drawn(7, WIDTH, seed=4)
    torch.manual_seed(0)
    block = QueryBlock(WIDTH, HEADS)
    block.reset_parameters()
    u = x + block.attention(block.attention_norm(x), p)
    v = u + block.memory_attention(block.memory_norm(u), p, memory, q)
    torch.testing.assert_close(block(x, p, memory, q), v + block.feedforward(block.feedforward_norm(v)))
    block = ViTBlock(WIDTH, HEADS)
    block.reset_parameters()
    u = x + block.attention(block.attention_norm(x))
    torch.testing.assert_close(block(x), u + block.feedforward(block.feedforward_norm(u)))


@pytest.mark.parametrize(("kind", "attentions"), [(ViTBlock, 1), (QueryBlock, 2)])
def test_sizes_and_initial_weights(kind, attentions):
    torch.manual_seed(0)
    block = kind(64, 2)
    block.reset_parameters()
    norms = 2 * 64 * (attentions + 1)
    assert sum(p.numel() for p in block.parameters()) == attentions * (4 * 64**2 + 4 * 64) + 8 * 64**2 + 5 * 64 + norms
    bound = (6 / (4 * 64)) ** 0.5  # Xavier's for 64 inputs and 192 outputs
    assert 0.99 * bound < block.attention.qkv.weight.abs().max() <= bound
    for weight in (block.attention.out.weight, block.feedforward[0].weight, block.feedforward[2].weight):
        assert abs(weight.std() / 0.02 - 1) < 0.05
    assert all(not bias.any() for name, bias in block.named_parameters() if name.endswith("bias"))


def test_positions_of_another_grid_are_interpolated():
    ramp = torch.arange(4.0)[:, None].expand(4, 3).reshape(12, 1)  # the row of each of 4 x 3 cells
    assert resize_positions(ramp, (4, 3), (4, 3)) is ramp
    doubled = resize_positions(ramp, (4, 3), (8, 3)).reshape(8, 3)
    assert torch.equal(doubled, doubled[:, :1].expand(8, 3))
    torch.testing.assert_close(doubled[:, 0], torch.arange(8) / 2 - 0.25, atol=0.25, rtol=0)  # exact away from the border
    torch.testing.assert_close(doubled[3:5, 0], torch.tensor([1.25, 1.75]), atol=0.05, rtol=0)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="attention_heads=3, expected a divisor of the width 16"):
        Attention(WIDTH, 3)
