import math

import pytest
import torch
import torch.nn.functional as F

from tokenizer.layers.llama import LlamaBlock, SwiGLU


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def block(dropout: float = 0.0) -> LlamaBlock:
    torch.manual_seed(0)
    layer = LlamaBlock(width=8, attention_heads=2, dropout=dropout)
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return layer


def rms(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * scale


def test_a_block_is_its_formula():
    layer, x = block(), drawn(2, 5, 8)
    query, key, value = (rms(x, layer.attention_norm.weight) @ layer.attention.qkv.weight.T).split(8, dim=-1)
    attended = []
    for head in (slice(0, 4), slice(4, 8)):
        scores = query[..., head] @ key[..., head].transpose(1, 2) / 4**0.5
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), float("-inf"))
        attended.append(scores.softmax(-1) @ value[..., head])
    x1 = x + torch.cat(attended, -1) @ layer.attention.out.weight.T
    gate, linear = (rms(x1, layer.feedforward_norm.weight) @ layer.feedforward.inner.weight.T).chunk(2, dim=-1)
    expected = x1 + (gate * gate.sigmoid() * linear) @ layer.feedforward.outer.weight.T
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("width", "hidden"), [(8, 256), (96, 256), (97, 512), (192, 512), (768, 2048), (1024, 2816), (1280, 3584), (1536, 4096)]
)
def test_the_inner_width_is_two_thirds_of_four_widths_rounded_up(width, hidden):
    with torch.device("meta"):
        assert SwiGLU(width).outer.in_features == hidden


@pytest.mark.parametrize(("multiple", "hidden"), [(1, 21), (8, 24), (21, 21), (22, 22)])
def test_the_inner_width_is_rounded_up_to_the_given_multiple(multiple, hidden):
    assert SwiGLU(8, multiple).outer.in_features == hidden  # int(8 / 3 * 8) = 21


@pytest.mark.parametrize(
    ("multiple", "eps", "named"), [(0, 1e-5, "feedforward_multiple=0"), (8, 0.0, "norm_eps=0.0"), (8, math.nan, "norm_eps=nan")]
)
def test_a_multiple_or_an_epsilon_out_of_range_is_named(multiple, eps, named):
    with pytest.raises(ValueError, match=named):
        LlamaBlock(8, 2, 0.0, multiple, eps)


def test_the_norms_compute_in_full_precision():
    layer, x = block(), 100 * drawn(4, 8).bfloat16()
    expected = rms(x.float(), layer.attention_norm.weight.bfloat16().float())
    torch.testing.assert_close(layer.attention_norm.bfloat16()(x).float(), expected, rtol=2**-7, atol=0)
    assert F.rms_norm(torch.full((8,), 300.0).half(), (8,)).isfinite().all()  # the square overflows fp16


def test_dropout_acts_on_both_halves_and_in_training_only():
    layer, x = block(dropout=0.999), drawn(1, 4, 8)
    plain = block()(x)
    assert torch.equal(layer.eval()(x), plain)
    torch.manual_seed(0)
    changed = (layer.train()(x) - x).abs() > 1e-6
    assert changed.float().mean() < 0.1


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="attention_heads=3, expected a divisor of the width 8"):
        LlamaBlock(8, 3, 0.0)


def test_reset_parameters_draws_weights_with_the_std_of_the_paper():
    layer = LlamaBlock(192, 2, 0.0)
    layer.reset_parameters()
    assert layer.attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert layer.feedforward.outer.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert torch.equal(layer.attention_norm.weight, torch.ones(192))
