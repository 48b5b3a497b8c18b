"""Contract of every quantizer with a file in conf/quantizer."""

from pathlib import Path

import pytest
import torch

from experiments.config.compose import CONF, compose
from tokenizer.interfaces import Quantizer
from tokenizer.pretrained import build

NAMES = sorted(path.stem for path in Path(CONF, "quantizer").glob("*.yaml"))
every_quantizer = pytest.mark.parametrize("name", NAMES)


def make(name: str) -> Quantizer:
    torch.manual_seed(0)
    return build(compose("train", [f"quantizer={name}"]).config["quantizer"])


def latents_for(quantizer: Quantizer, seed: int = 1) -> torch.Tensor:
    return torch.randn(2, 9, quantizer.latent_dim, generator=torch.Generator().manual_seed(seed))


@every_quantizer
def test_the_shared_width_is_the_one_of_the_quantizer(name):
    assert compose("train", [f"quantizer={name}"]).config["latent_dim"] == make(name).latent_dim


@every_quantizer
def test_shapes_and_dtypes_are_those_of_the_interface(name):
    quantizer = make(name)
    out = quantizer(latents_for(quantizer))
    assert out.quantized.shape == (2, 9, quantizer.latent_dim)
    assert out.indices.shape == (2, 9, quantizer.groups)
    assert out.lookup_latents.shape[:3] == (2, 9, quantizer.groups)
    assert (out.quantized.dtype, out.indices.dtype) == (torch.float32, torch.int64)
    assert out.quantized.is_contiguous()
    assert out.indices.is_contiguous()
    assert set(out.losses) <= {"commitment", "codebook"}
    assert all(loss.shape == () and loss > 0 for loss in out.losses.values())


@every_quantizer
def test_indices_are_below_the_codebook_size_and_vary(name):
    quantizer = make(name)
    indices = quantizer(latents_for(quantizer)).indices
    assert indices.min() >= 0
    assert indices.max() < quantizer.codebook_size
    assert len(indices.unique()) > 4


@every_quantizer
@pytest.mark.parametrize("training", [True, False])
def test_indices_reproduce_the_quantized_latents_exactly(name, training):
    quantizer = make(name).train(training)
    out = quantizer(latents_for(quantizer))
    assert torch.equal(quantizer.indices_to_latents(out.indices), out.quantized)


@every_quantizer
def test_the_gradient_reaches_the_latents_through_the_quantized_values_and_each_loss(name):
    quantizer = make(name)
    latents = latents_for(quantizer).requires_grad_()
    out = quantizer(latents)
    weights = torch.randn(out.quantized.shape, generator=torch.Generator().manual_seed(2))
    for term in [(out.quantized * weights).sum(), *(out.losses[key] for key in out.losses if key == "commitment")]:
        (gradient,) = torch.autograd.grad(term, latents, retain_graph=True)
        assert gradient.abs().amax(-1).min() > 0


@every_quantizer
def test_only_the_codebook_loss_moves_the_codebook(name):
    quantizer = make(name)
    parameters = list(quantizer.parameters())
    if not parameters:
        return
    out = quantizer(latents_for(quantizer))
    moved = {
        key: torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)[0]
        for key, loss in out.losses.items()
        if loss.requires_grad
    }
    assert moved["codebook"].abs().max() > 0
    assert "commitment" not in moved or moved["commitment"] is None
    assert not out.quantized.requires_grad


@every_quantizer
def test_two_passes_in_eval_mode_are_equal(name):
    quantizer = make(name).eval()
    first, second = (quantizer(latents_for(quantizer)) for _ in range(2))
    assert torch.equal(first.indices, second.indices)
    assert torch.equal(first.quantized, second.quantized)


@every_quantizer
def test_a_saved_state_gives_the_same_indices(name):
    quantizer, other = make(name), make(name)
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other(latents_for(quantizer)).indices, quantizer(latents_for(quantizer)).indices)


@every_quantizer
def test_a_part_built_on_the_meta_device_is_filled_by_reset_parameters(name):
    expected = make(name)
    with torch.device("meta"):
        quantizer = make(name)
    quantizer.to_empty(device="cpu")
    torch.manual_seed(0)
    quantizer.reset_parameters()
    assert torch.equal(quantizer(latents_for(expected)).indices, expected(latents_for(expected)).indices)


@every_quantizer
def test_bits_per_token_count_all_combinations_of_indices(name):
    quantizer = make(name)
    assert 2**quantizer.bits_per_token == pytest.approx(float(quantizer.codebook_size**quantizer.groups), rel=1e-6)


@every_quantizer
def test_autocast_does_not_change_the_indices(name):
    quantizer = make(name)
    expected = quantizer(latents_for(quantizer))
    with torch.autocast("cpu", torch.bfloat16):
        out = quantizer(latents_for(quantizer))
    assert torch.equal(out.indices, expected.indices)
    assert torch.equal(out.quantized, expected.quantized)


@every_quantizer
def test_half_precision_latents_are_quantized_in_full_precision(name):
    quantizer = make(name)
    latents = latents_for(quantizer).bfloat16()
    out, expected = quantizer(latents), quantizer(latents.float())
    assert torch.equal(out.indices, expected.indices)
    assert torch.equal(out.quantized, expected.quantized.bfloat16())
    assert {key: loss.dtype for key, loss in out.losses.items()} == dict.fromkeys(expected.losses, torch.float32)
    assert out.lookup_latents.dtype == torch.float32


@every_quantizer
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_quantizer_of_another_float_type_returns_it_and_computes_at_least_in_fp32(name, dtype):
    quantizer, rounded = make(name).to(dtype), make(name).to(dtype).float()
    latents = latents_for(quantizer).to(dtype).requires_grad_()
    out, expected = quantizer(latents), rounded(latents.detach().float())
    assert out.quantized.dtype == dtype
    assert torch.equal(out.indices, expected.indices)
    torch.testing.assert_close(out.quantized, expected.quantized.to(dtype), rtol=1e-6, atol=1e-6)
    assert torch.equal(quantizer.indices_to_latents(out.indices).to(dtype), out.quantized)
    assert out.lookup_latents.dtype == torch.promote_types(dtype, torch.float32)
    for key, loss in out.losses.items():
        assert loss.dtype == torch.promote_types(dtype, torch.float32)
        torch.testing.assert_close(loss.float(), expected.losses[key])
    out.quantized.sum().backward()
    assert latents.grad.dtype == dtype
    assert latents.grad.isfinite().all()


@every_quantizer
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_latent_that_is_not_finite_gives_an_index_in_range_and_shows_in_the_value(name, bad):
    quantizer = make(name)
    latents = latents_for(quantizer)
    latents[0, 3] = bad
    out = quantizer(latents)
    assert out.indices.min() >= 0
    assert out.indices.max() < quantizer.codebook_size
    saturated = torch.where(latents.isinf(), 1e30, latents)  # infinity may count as a large number where latents are bounded
    is_visible = not out.quantized[0, 3].isfinite().all()
    assert is_visible or (bad == float("inf") and torch.equal(out.quantized[0, 3], quantizer(saturated).quantized[0, 3]))
    assert out.quantized[1].isfinite().all()


@every_quantizer
def test_latents_of_another_width_are_refused_by_name(name):
    quantizer = make(name)
    with pytest.raises(ValueError, match="latent_dim"):
        quantizer(torch.zeros(1, 2, quantizer.latent_dim + 1))


@every_quantizer
def test_indices_of_another_number_of_groups_are_refused(name):
    quantizer = make(name)
    with pytest.raises(ValueError, match="indices"):
        quantizer.indices_to_latents(torch.zeros(1, 2, quantizer.groups + 1, dtype=torch.long))


@every_quantizer
@pytest.mark.parametrize("wrong", [-1, "size"])
def test_indices_out_of_range_are_refused_with_their_value(name, wrong):
    quantizer = make(name)
    index = quantizer.codebook_size if wrong == "size" else wrong
    indices = torch.zeros(1, 2, quantizer.groups, dtype=torch.long)
    indices[0, 1, -1] = index
    with pytest.raises(ValueError, match=f"index {index} is out of range, expected 0 to {quantizer.codebook_size - 1}"):
        quantizer.indices_to_latents(indices)


@every_quantizer
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_indices_may_have_any_integer_type(name, dtype):
    quantizer = make(name)
    indices = torch.arange(2 * 3 * quantizer.groups).view(2, 3, quantizer.groups) % min(quantizer.codebook_size, 100)
    assert torch.equal(quantizer.indices_to_latents(indices.to(dtype)), quantizer.indices_to_latents(indices))
    with pytest.raises(ValueError, match="expected integers"):
        quantizer.indices_to_latents(indices.float())


@every_quantizer
@pytest.mark.parametrize("shape", [(0, 9), (2, 0)])
def test_an_empty_batch_gives_empty_outputs_of_the_usual_shapes(name, shape):
    quantizer = make(name)
    out, usual = quantizer(torch.zeros(*shape, quantizer.latent_dim)), quantizer(latents_for(quantizer))
    assert out.quantized.shape == (*shape, quantizer.latent_dim)
    assert out.indices.shape == (*shape, quantizer.groups)
    assert out.lookup_latents.shape == (*shape, *usual.lookup_latents.shape[2:])
    assert out.losses.keys() == usual.losses.keys()
    assert quantizer.indices_to_latents(out.indices).shape == out.quantized.shape
