"""Lookup-free and binary spherical quantization against hand-made cases and an independent implementation."""

import math

import pytest
import torch
import torch.nn.functional as F
from vector_quantize_pytorch import LFQ

from tokenizer.quantizers.bsq import BinarySphericalQuantizer
from tokenizer.quantizers.lfq import LookupFreeQuantizer


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def every_code(D: int) -> torch.Tensor:
    """All corners, the first channel changing fastest."""
    return torch.tensor([[1.0 if index >> bit & 1 else -1.0 for bit in range(D)] for index in range(2**D)])


def test_the_sign_is_the_code_and_zero_is_negative():
    out = LookupFreeQuantizer(4)(torch.tensor([[[0.2, -3.0, 0.0, 5.0]]]))
    assert out.quantized.tolist() == [[[1.0, -1.0, -1.0, 1.0]]]
    assert out.indices.item() == 1 + 8
    assert out.losses["commitment"].item() == pytest.approx((0.8**2 + 2**2 + 1 + 4**2) / 4)


def test_binary_spherical_codes_are_on_the_sphere():
    """(3, -4) is (0.6, -0.8) on the circle; its code is (1, -1) / sqrt(2)."""
    out = BinarySphericalQuantizer(2)(torch.tensor([[[3.0, -4.0]]]))
    corner = math.sqrt(0.5)
    torch.testing.assert_close(out.quantized, torch.tensor([[[corner, -corner]]]))
    assert out.indices.item() == 1
    assert out.losses["commitment"].item() == pytest.approx(((0.6 - corner) ** 2 + (0.8 - corner) ** 2) / 2)


@pytest.mark.parametrize("quantizer", [LookupFreeQuantizer(6), LookupFreeQuantizer(6, spherical=True), BinarySphericalQuantizer(6)])
def test_indices_are_those_of_the_nearest_corner(quantizer):
    latents = normal(2, 40, 6)
    codes = every_code(6)
    distances = (F.normalize(latents, dim=-1).unsqueeze(2).double() - F.normalize(codes, dim=-1).double()).square().sum(-1)
    out = quantizer(latents)
    assert torch.equal(out.indices.squeeze(-1), distances.argmin(-1))
    magnitude = 6**-0.5 if isinstance(quantizer, BinarySphericalQuantizer) else 1.0
    torch.testing.assert_close(out.quantized, codes[distances.argmin(-1)] * magnitude)


def test_every_index_up_to_eighteen_bits_is_reproduced_from_its_latents():
    quantizer = LookupFreeQuantizer(18)
    indices = torch.arange(2**18).view(1, -1, 1)
    assert torch.equal(quantizer(quantizer.indices_to_latents(indices)).indices, indices)


def test_splitting_gives_the_bits_first_channel_first():
    assert LookupFreeQuantizer(4).split_indices(torch.tensor([[[9]]])).tolist() == [[[1, 0, 0, 1]]]


def test_the_straight_through_gradient_is_the_identity():
    latents, upstream = normal(1, 3, 5).requires_grad_(), normal(1, 3, 5, seed=1)
    LookupFreeQuantizer(5)(latents).quantized.backward(upstream)
    assert torch.equal(latents.grad, upstream)


@pytest.mark.parametrize("kind", [LookupFreeQuantizer, BinarySphericalQuantizer])
def test_it_agrees_with_an_independent_implementation(kind):
    """The reference counts the first channel as the most significant bit."""
    spherical = kind is BinarySphericalQuantizer
    reference = LFQ(dim=8, codebook_size=256, spherical=spherical, entropy_loss_weight=0.0, commitment_loss_weight=1.0).train()
    latents = normal(2, 50, 8)
    (quantized, indices, _), breakdown = reference(latents, return_loss_breakdown=True)
    out = kind(8)(latents)
    torch.testing.assert_close(out.quantized, quantized)
    assert torch.equal(kind(8)(latents.flip(-1)).indices.squeeze(-1), indices.long())
    torch.testing.assert_close(out.losses["commitment"], breakdown.commitment)


@pytest.mark.parametrize("kind", [LookupFreeQuantizer, BinarySphericalQuantizer])
def test_sixty_two_bits_fit_in_an_index_and_more_are_refused(kind):
    assert kind(62)(torch.ones(1, 1, 62)).indices.item() == 2**62 - 1
    for latent_dim in (0, 63):
        with pytest.raises(ValueError, match=f"latent_dim={latent_dim}"):
            kind(latent_dim)
