"""Finite scalar quantization against all its codes, hand-made cases and an independent implementation."""

import pytest
import torch
from vector_quantize_pytorch import FSQ

from tokenizer.quantizers.fsq import FiniteScalarQuantizer


def every_index(quantizer: FiniteScalarQuantizer) -> torch.Tensor:
    return torch.arange(quantizer.codebook_size).view(1, -1, 1)


def test_symmetric_codes_are_those_of_the_paper():
    """Five levels are -1 to 1 in halves; four are -1, -1/2, 0, 1/2 (appendix A.1 divides by the half width)."""
    quantizer = FiniteScalarQuantizer([5, 4])
    codes = quantizer.indices_to_latents(every_index(quantizer))[0]
    assert codes[:5].tolist() == [[-1.0, -1.0], [-0.5, -1.0], [0.0, -1.0], [0.5, -1.0], [1.0, -1.0]]
    assert codes[::5, 1].tolist() == [-1.0, -0.5, 0.0, 0.5]


def test_unit_codes_run_from_zero_to_one():
    quantizer = FiniteScalarQuantizer([3, 2], bound="unit")
    codes = quantizer.indices_to_latents(every_index(quantizer))[0]
    assert codes.tolist() == [[0.0, 0.0], [0.5, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("bound", ["symmetric", "unit"])
def test_every_code_is_reached_and_zero_is_the_middle(bound):
    quantizer = FiniteScalarQuantizer([8, 5, 3], bound)
    line = torch.linspace(-6, 6, 400)
    out = quantizer(line.view(1, -1, 1).expand(1, -1, 3))
    digits = quantizer.split_indices(out.indices)[0]
    for channel, levels in enumerate([8, 5, 3]):
        assert digits[:, channel].unique().tolist() == list(range(levels))
        assert (digits[:, channel].diff() >= 0).all()
    middle = quantizer(torch.zeros(1, 1, 3))
    if bound == "symmetric":
        assert middle.quantized.flatten().tolist() == [0.0, 0.0, 0.0]
    else:
        assert middle.quantized.flatten().tolist()[1:] == [0.5, 0.5]


def test_unit_rounds_the_logistic_function():
    """sigmoid(1) = 0.731; times 4 levels' 3 steps is 2.19, the third level of four: 2/3."""
    out = FiniteScalarQuantizer([4], bound="unit")(torch.tensor([[[1.0]]]))
    assert out.indices.item() == 2
    assert out.quantized.item() == pytest.approx(2 / 3)


def test_the_gradient_is_that_of_the_bound():
    latents = torch.tensor([[[0.3, -1.2]]], requires_grad=True)
    FiniteScalarQuantizer([5, 5])(latents).quantized.sum().backward()
    expected = (1 - latents.detach().tanh() ** 2) * 2 * (1 - 1e-3) / 2  # half width 2, scaled back by 2
    torch.testing.assert_close(latents.grad, expected)


def test_indices_agree_with_an_independent_implementation_away_from_the_edges_of_levels():
    """The reference widens tanh by 0.1 % where the paper shrinks it, so latents close to the edge between two levels may differ."""
    levels = [8, 5, 6, 3]
    quantizer, reference = FiniteScalarQuantizer(levels), FSQ(levels)
    latents = 2 * torch.randn(4, 200, 4, generator=torch.Generator().manual_seed(0))
    half, offset = (torch.tensor(levels) - 1) * (1 - 1e-3) / 2, 0.5 * (1 - torch.tensor(levels) % 2)
    bounded = (latents + (offset / half).atanh()).tanh() * half - offset  # levels are whole numbers
    inner = ((bounded - bounded.floor() - 0.5).abs() > 0.02).all(-1)
    quantized, indices = reference(latents)
    out = quantizer(latents)
    assert inner.float().mean() > 0.8
    assert torch.equal(out.indices.squeeze(-1)[inner], indices[inner].long())
    torch.testing.assert_close(out.quantized[inner], quantized[inner])
    assert torch.equal(quantizer.indices_to_latents(every_index(quantizer))[0], reference.implicit_codebook)


def test_splitting_undoes_the_mixed_radix_and_the_first_channel_counts_least():
    quantizer = FiniteScalarQuantizer([4, 3, 5])
    assert quantizer.split_indices(torch.tensor([[[1], [4], [12], [59]]])).tolist() == [[[1, 0, 0], [0, 1, 0], [0, 0, 1], [3, 2, 4]]]


def test_sixty_two_bits_fit_in_an_index_and_more_are_refused():
    quantizer = FiniteScalarQuantizer([4] * 31)
    out = quantizer(torch.full((1, 1, 31), 9.0))
    assert out.indices.item() == 2**62 - 1
    assert torch.equal(quantizer.indices_to_latents(out.indices), out.quantized)
    with pytest.raises(ValueError, match=r"levels_per_dim=.* at most 2\^62 codes"):
        FiniteScalarQuantizer([4] * 31 + [3])


@pytest.mark.parametrize(("levels", "bound"), [([], "symmetric"), ([5, 2], "symmetric"), ([5, 1], "unit")])
def test_too_few_levels_are_refused_by_key(levels, bound):
    with pytest.raises(ValueError, match="levels_per_dim"):
        FiniteScalarQuantizer(levels, bound)


def test_there_are_no_losses_and_no_soft_assignment():
    quantizer = FiniteScalarQuantizer([5, 5])
    out = quantizer(torch.zeros(1, 1, 2))
    assert out.losses == {}
    assert quantizer.codes is None
    with pytest.raises(NotImplementedError, match=r"loss\.weights\.entropy=0"):
        quantizer.entropies(out.lookup_latents, 0.01)
