"""Grouped spherical and plain vector quantization against hand-made cases and an independent implementation."""

import math

import pytest
import torch
import torch.nn.functional as F
from vector_quantize_pytorch import VectorQuantize

from tokenizer.quantizers.gsq import GroupedSphericalQuantizer
from tokenizer.quantizers.vq import VectorQuantizer


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_codebook(quantizer, rows):
    quantizer.codebook.data = torch.as_tensor(rows, dtype=torch.float32)
    return quantizer


def test_the_code_of_the_same_direction_is_the_output_unnormalized():
    quantizer = with_codebook(GroupedSphericalQuantizer(2, 1, 2), [[1.0, 0.0], [0.0, 7.0]])
    out = quantizer(torch.tensor([[[0.1, 0.2]]]))  # close to the first, but points more to the second
    assert out.indices.item() == 1
    assert out.quantized.tolist() == [[[0.0, 7.0]]]


def test_without_normalization_the_closest_code_is_the_output():
    quantizer = with_codebook(GroupedSphericalQuantizer(2, 1, 2, normalization="none"), [[1.0, 0.0], [0.0, 7.0]])
    assert quantizer(torch.tensor([[[0.1, 0.2]]])).indices.item() == 0


def test_groups_are_consecutive_channels_that_share_one_codebook():
    quantizer = with_codebook(GroupedSphericalQuantizer(4, 2, 3), [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    out = quantizer(torch.tensor([[[5.0, 0.0, -3.0, 0.1]]]))
    assert out.indices.tolist() == [[[0, 2]]]
    assert out.quantized.tolist() == [[[1.0, 0.0, -1.0, 0.0]]]


def test_losses_compare_the_normalized_latent_with_the_unnormalized_row():
    """Latent (3, 4) is (0.6, 0.8) normalized; against the row (0, 2) both errors are (0.36 + 1.44) / 2."""
    quantizer = with_codebook(GroupedSphericalQuantizer(2, 1, 2), [[0.0, 2.0], [-1.0, 0.0]])
    latents = torch.tensor([[[3.0, 4.0]]], requires_grad=True)
    out = quantizer(latents)
    assert out.losses["commitment"].item() == pytest.approx(0.9)
    assert out.losses["codebook"].item() == pytest.approx(0.9)
    out.losses["codebook"].backward()
    torch.testing.assert_close(quantizer.codebook.grad, torch.tensor([[-0.6, 1.2], [0.0, 0.0]]))  # e - n(z)
    assert latents.grad is None


def test_the_gradient_passes_through_the_normalization():
    """The derivative of z / |z| leaves nothing along z."""
    quantizer = GroupedSphericalQuantizer(4, 1, 5)
    latents = normal(1, 3, 4).requires_grad_()
    quantizer(latents).quantized.backward(normal(1, 3, 4, seed=1))
    assert latents.grad.abs().sum() > 0
    torch.testing.assert_close((latents.grad * latents).sum(-1), torch.zeros(1, 3), atol=1e-6, rtol=0)


def test_without_normalization_the_straight_through_gradient_is_the_identity():
    quantizer = VectorQuantizer(4, 5)
    latents, upstream = normal(1, 3, 4).requires_grad_(), normal(1, 3, 4, seed=1)
    quantizer(latents).quantized.backward(upstream)
    assert torch.equal(latents.grad, upstream)


def test_clip_compares_values_limited_to_one_and_gives_no_gradient_beyond():
    quantizer = with_codebook(GroupedSphericalQuantizer(2, 2, 3, normalization="clip"), [[0.9], [1.6], [-1.0]])
    latents = torch.tensor([[[0.94, 3.0]]], requires_grad=True)
    out = quantizer(latents)
    assert out.indices.tolist() == [[[0, 1]]]  # 3 counts as 1, and so does the code at 1.6
    out.quantized.sum().backward()
    assert latents.grad.tolist() == [[[1.0, 0.0]]]


def test_l1_compares_on_the_diamond():
    """(0.5, 0.5) is the latent on the diamond; codes (0.3, 0.7) and (1, 0) normalize to themselves."""
    quantizer = with_codebook(GroupedSphericalQuantizer(2, 1, 2, normalization="l1"), [[10.0, 0.0], [0.03, 0.07]])
    out = quantizer(torch.tensor([[[4.0, 4.0]]]))
    assert out.indices.item() == 1
    torch.testing.assert_close(out.lookup_latents, torch.tensor([[[[0.5, 0.5]]]]))


@pytest.mark.parametrize(("latent_dim", "groups"), [(4, 4), (8, 4), (12, 3)])
@pytest.mark.parametrize("normalization", ["none", "l1", "l2", "clip"])
def test_indices_equal_a_float64_brute_force(latent_dim, groups, normalization):
    torch.manual_seed(0)
    quantizer = GroupedSphericalQuantizer(latent_dim, groups, 80, normalization)
    latents = normal(2, 20, latent_dim, seed=1)
    normalize = {
        "none": lambda v: v,
        "l1": lambda v: v / v.abs().sum(-1, keepdim=True),
        "l2": lambda v: v / v.square().sum(-1, keepdim=True).sqrt(),
        "clip": lambda v: v.clamp(-1, 1),
    }[normalization]
    rows, codes = normalize(latents.view(2, 20, groups, 1, -1)).double(), normalize(quantizer.codebook).double()
    distances = (rows - codes).square().sum(-1)
    smallest = distances.gather(-1, quantizer(latents).indices.unsqueeze(-1)).squeeze(-1)
    # The two normalizations round differently, which matters if all lengths are 1 and many distances are equal.
    torch.testing.assert_close(smallest, distances.amin(-1), atol=1e-6, rtol=0)


def test_spherical_initialization_gives_unit_rows_in_all_directions():
    torch.manual_seed(0)
    codebook = GroupedSphericalQuantizer(8, 2, 4000).codebook.detach()
    torch.testing.assert_close(codebook.norm(dim=1), torch.ones(4000))
    torch.testing.assert_close(codebook.t() @ codebook / 4000, torch.eye(4) / 4, atol=0.02, rtol=0)


@pytest.mark.parametrize(("groups", "bound"), [(1, 1 / 500), (8, 1.0)])
def test_uniform_initialization_fills_its_interval(groups, bound):
    torch.manual_seed(0)
    codebook = GroupedSphericalQuantizer(8, groups, 500, initialization="uniform").codebook.detach()
    assert 0.98 * bound < codebook.max() <= bound
    assert -bound <= codebook.min() < -0.98 * bound
    assert codebook.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_ties_are_random_in_training_mode_only():
    quantizer = with_codebook(GroupedSphericalQuantizer(1, 1, 2, ties="random"), [[1.0], [1.0]])
    latents = torch.ones(1, 100, 1)
    torch.manual_seed(0)
    assert 0 < quantizer(latents).indices.sum() < 100
    assert quantizer.eval()(latents).indices.sum() == 0


def test_vector_quantization_is_one_group():
    quantizer = VectorQuantizer(6, 50, "l2", "sphere")
    assert (quantizer.groups, quantizer.bits_per_token) == (1, math.log2(50))
    assert quantizer.codes.shape == (50, 6)


def test_vector_quantization_agrees_with_an_independent_implementation():
    torch.manual_seed(0)
    actual, reference = VectorQuantizer(6, 50, initialization="sphere"), VectorQuantize(dim=6, codebook_size=50).eval()
    reference._codebook.embed.data.copy_(actual.codebook.data[None])
    latents = normal(2, 30, 6)
    quantized, indices, _ = reference(latents)
    out = actual(latents)
    assert torch.equal(out.indices.squeeze(-1), indices)
    torch.testing.assert_close(out.quantized, quantized)


def test_the_normalized_lookup_agrees_with_an_independent_cosine_lookup():
    """Only in the index: the reference outputs the normalized code."""
    torch.manual_seed(0)
    actual, reference = VectorQuantizer(6, 50, "l2"), VectorQuantize(dim=6, codebook_size=50, use_cosine_sim=True).eval()
    reference._codebook.embed.data.copy_(F.normalize(actual.codebook.data, dim=-1)[None])
    latents = normal(2, 30, 6)
    assert torch.equal(actual(latents).indices.squeeze(-1), reference(latents)[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latent_dim": 0}, "latent_dim=0"),
        ({"groups": 0}, "groups=0"),
        ({"groups": 3}, "groups=3 does not divide latent_dim=8"),
        ({"codebook_size": 1}, "codebook_size=1"),
        ({"normalization": "l3"}, "normalization=l3"),
        ({"initialization": "zeros"}, "initialization=zeros"),
        ({"ties": "first"}, "ties=first"),
    ],
)
def test_bad_arguments_are_refused_with_value_and_key(arguments, message):
    with pytest.raises(ValueError, match=message):
        GroupedSphericalQuantizer(**{"latent_dim": 8, "groups": 2, "codebook_size": 16, **arguments})
