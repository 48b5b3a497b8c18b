"""Residual quantization against a hand-made case, a float64 loop and an independent implementation."""

import pytest
import torch
from vector_quantize_pytorch import ResidualVQ

from tokenizer.quantizers.rvq import ResidualVectorQuantizer


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_each_level_quantizes_the_residual_and_its_losses_compare_with_it():
    """5.5 is 4 and 1 with 0.5 left: residuals 5.5 and 1.5, errors 1.5 and 0.5."""
    quantizer = ResidualVectorQuantizer(1, 2, 3)
    quantizer.codebook.data = torch.tensor([[[1.0], [4.0], [-1.0]]])
    out = quantizer(torch.tensor([[[5.5]]]))
    assert out.indices.tolist() == [[[1, 0]]]
    assert out.quantized.item() == 5.0
    assert out.lookup_latents.flatten().tolist() == [5.5, 1.5]
    assert out.losses["commitment"].item() == pytest.approx((1.5**2 + 0.5**2) / 2)
    assert out.losses["codebook"].item() == pytest.approx((1.5**2 + 0.5**2) / 2)
    out.losses["codebook"].backward()
    # d/de of the mean over two levels: (e - residual) for the code of each level.
    torch.testing.assert_close(quantizer.codebook.grad.flatten(), torch.tensor([-0.5, -1.5, 0.0]))


def test_the_commitment_of_a_level_does_not_reach_through_the_codes_of_earlier_ones():
    quantizer = ResidualVectorQuantizer(3, 4, 20)
    latents = normal(1, 5, 3).requires_grad_()
    out = quantizer(latents)
    (gradient,) = torch.autograd.grad(out.losses["commitment"], latents)
    residuals = out.lookup_latents.detach()
    codes = quantizer.codebook.detach()[0][out.indices]
    torch.testing.assert_close(gradient, 2 * (residuals - codes).sum(2) / residuals.numel())


@pytest.mark.parametrize("shared", [True, False])
def test_indices_equal_a_float64_loop(shared):
    torch.manual_seed(0)
    quantizer = ResidualVectorQuantizer(5, 4, 70, shared)
    latents = normal(2, 30, 5)
    residual, indices = latents.double(), quantizer(latents).indices
    for level in range(4):
        table = quantizer.codebook[0 if shared else level].double()
        distances = (residual.unsqueeze(2) - table).square().sum(-1)
        assert torch.equal(indices[..., level], distances.argmin(-1))
        residual = residual - table[indices[..., level]]


@pytest.mark.parametrize("shared", [True, False])
def test_it_agrees_with_an_independent_implementation(shared):
    torch.manual_seed(0)
    actual = ResidualVectorQuantizer(5, 4, 40, shared)
    reference = ResidualVQ(dim=5, num_quantizers=4, codebook_size=40, shared_codebook=shared).eval()
    for level, layer in enumerate(reference.layers):
        layer._codebook.embed.data.copy_(actual.codebook.data[0 if shared else level][None])
    latents = normal(2, 30, 5)
    quantized, indices, _ = reference(latents)
    out = actual(latents)
    assert torch.equal(out.indices, indices)
    torch.testing.assert_close(out.quantized, quantized)


def test_codes_are_one_table_or_all_levels_below_each_other():
    assert ResidualVectorQuantizer(5, 4, 40).codes.shape == (40, 5)
    assert ResidualVectorQuantizer(5, 4, 40, shared_codebook=False).codes.shape == (160, 5)


@pytest.mark.parametrize("key", ["latent_dim", "levels", "codebook_size"])
def test_bad_arguments_are_refused_with_value_and_key(key):
    with pytest.raises(ValueError, match=f"{key}=0"):
        ResidualVectorQuantizer(**{"latent_dim": 8, "levels": 2, "codebook_size": 16, key: 0})
