"""Entropies of soft assignments against an enumerated float64 softmax: values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from tokenizer.quantizers import binary, entropy
from tokenizer.quantizers.bsq import BinarySphericalQuantizer
from tokenizer.quantizers.gsq import GroupedSphericalQuantizer
from tokenizer.quantizers.lfq import LookupFreeQuantizer
from tokenizer.quantizers.rvq import ResidualVectorQuantizer


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def enumerated(latents: torch.Tensor, codes: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, d) and (V, d) in float64 to both entropies, all n x V probabilities at once."""
    logarithms = (-(latents[:, None] - codes).square().sum(-1) / temperature).log_softmax(-1)
    mean = logarithms.exp().mean(0)
    return -(logarithms.exp() * logarithms).sum(-1).mean(), -torch.special.xlogy(mean, mean).sum()


def corners(D: int) -> torch.Tensor:
    return torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.double)] * D).view(2**D, D)


@pytest.mark.parametrize("D", [1, 2, 9, 10])
@pytest.mark.parametrize("temperature", [0.5, 4.0])
@pytest.mark.parametrize("kind", [LookupFreeQuantizer, BinarySphericalQuantizer])
def test_binary_entropies_equal_an_enumerated_softmax(kind, D, temperature):
    quantizer = kind(D)
    latents = (0.7 * normal(2, 20, 1, D)).requires_grad_()
    exact = latents.detach().double().requires_grad_()
    codes = corners(D) * (D**-0.5 if kind is BinarySphericalQuantizer else 1.0)
    for actual, reference in zip(
        quantizer.entropies(latents, temperature), enumerated(exact.flatten(0, 2), codes, temperature), strict=True
    ):
        assert actual.item() == pytest.approx(reference.item(), abs=1e-5)
        (gradient,), (expected,) = (
            torch.autograd.grad(actual, latents, retain_graph=True),
            torch.autograd.grad(reference, exact, retain_graph=True),
        )
        torch.testing.assert_close(gradient.double(), expected, atol=1e-5, rtol=0)


def test_a_cold_temperature_gives_finite_entropies_and_gradients():
    """With 0.01 most probabilities are exactly zero in fp32; eight sure tokens of eight codes have log 8."""
    latents = (3 * corners(3).float()).view(1, 8, 1, 3).requires_grad_()
    sample, batch = LookupFreeQuantizer(3).entropies(latents, 0.01)
    assert sample.item() == 0
    assert batch.item() == pytest.approx(torch.log(torch.tensor(8.0)).item())
    (gradient,) = torch.autograd.grad(sample - batch, latents)
    assert gradient.isfinite().all()


def test_undecided_bits_have_the_entropy_of_all_codes():
    sample, batch = LookupFreeQuantizer(18).entropies(torch.zeros(1, 4, 1, 18), 1.0)
    assert sample.item() == pytest.approx(18 * 0.693147, rel=1e-5)
    assert batch.item() == pytest.approx(18 * 0.693147, rel=1e-5)


def check_table(quantizer, compared, tables, monkeypatch):
    """Both entropies, averaged over groups, and their gradients in latents and codebook; several chunks."""
    monkeypatch.setattr(entropy, "max_temp_elements", lambda device: 256)
    exact = compared.detach().double().requires_grad_()
    tables = [table.double() for table in tables]
    expected = [
        torch.stack(values).mean()
        for values in zip(*(enumerated(exact[:, :, g].flatten(0, 1), t, 0.3) for g, t in enumerate(tables)), strict=True)
    ]
    compared = compared.detach().requires_grad_()
    for actual, reference in zip(quantizer.entropies(compared, 0.3), expected, strict=True):
        assert actual.item() == pytest.approx(reference.item(), abs=1e-5)
        gradients = torch.autograd.grad(actual, [compared, quantizer.codebook], retain_graph=True)
        references = torch.autograd.grad(reference, [exact, quantizer.codebook], retain_graph=True)
        for gradient, reference in zip(gradients, references, strict=True):
            torch.testing.assert_close(gradient.double(), reference.double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("normalization", ["none", "l2"])
def test_grouped_entropies_equal_an_enumerated_softmax(normalization, monkeypatch):
    torch.manual_seed(0)
    quantizer = GroupedSphericalQuantizer(12, 3, 50, normalization)
    compared = quantizer(normal(2, 15, 12)).lookup_latents
    codes = F.normalize(quantizer.codebook, dim=-1) if normalization == "l2" else quantizer.codebook
    check_table(quantizer, compared, [codes] * 3, monkeypatch)


def test_residual_entropies_use_the_codes_of_each_level(monkeypatch):
    torch.manual_seed(0)
    quantizer = ResidualVectorQuantizer(4, 3, 50, shared_codebook=False)
    check_table(quantizer, quantizer(normal(2, 15, 4)).lookup_latents, list(quantizer.codebook), monkeypatch)


def test_chunks_of_tokens_do_not_change_the_binary_entropies(monkeypatch):
    latents = normal(1, 50, 1, 8)
    whole = LookupFreeQuantizer(8).entropies(latents, 1.0)
    monkeypatch.setattr(binary, "max_temp_elements", lambda device: 100)
    torch.testing.assert_close(LookupFreeQuantizer(8).entropies(latents, 1.0), whole)


def test_more_bits_than_a_table_can_hold_are_refused_with_a_way_out():
    with pytest.raises(ValueError, match=r"latent_dim=25.*loss\.weights\.entropy=0"):
        LookupFreeQuantizer(25).entropies(torch.zeros(1, 1, 1, 25), 1.0)
