"""Contract of every encoder and decoder pair with a file in conf/backbone."""

from functools import cache

import pytest
import torch
from torch import Tensor, nn

from experiments.config.compose import CONF, compose
from tokenizer import pretrained
from tokenizer.interfaces import Decoder, Encoder

NAMES = sorted(path.stem for path in (CONF / "backbone").glob("*.yaml"))
SMALL = ("width=32", "depth=1")
TRANSFORMERS = ("transformer@encoder_size=mini_s", "transformer@decoder_size=mini_b", "multipliers=[1,1,1]", "image_size=16")
MORE = {"hybrid_1d": (*TRANSFORMERS, "sequence_length=8"), "hybrid_2d": TRANSFORMERS}
every_backbone = pytest.mark.parametrize("name", NAMES)
every_part = pytest.mark.parametrize("part", ["encoder", "decoder"])


@cache
def config(name: str) -> dict:
    return compose("train", [f"backbone={name}", *SMALL, *MORE.get(name, ())]).config["backbone"]


def make(name: str, part: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return pretrained.build(config(name)[part])


def make_pair(name: str) -> tuple[Encoder, Decoder]:
    """With noise on every parameter, because some layers start at zero."""
    encoder, decoder = make(name, "encoder"), make(name, "decoder")
    with torch.no_grad():
        for parameter in [*encoder.parameters(), *decoder.parameters()]:
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return encoder, decoder


def images_for(encoder: Encoder, batch: int = 2) -> Tensor:
    """Two by four cells."""
    sides = 2 * encoder.downsample, 4 * encoder.downsample
    return torch.rand(batch, 3, *sides, generator=torch.Generator().manual_seed(1)) * 2 - 1


def is_equal_state(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(name == other and torch.equal(value, copy) for (name, value), (other, copy) in pairs)


@every_backbone
def test_shapes_follow_from_the_image_and_the_latent_width(name):
    encoder, decoder = make_pair(name)
    for batch in (1, 3):
        images = images_for(encoder, batch)
        out = encoder(images)
        assert out.layout.grid == (2, 4)
        assert out.layout.kind == encoder.kind
        num_tokens = encoder.num_tokens(out.layout.grid)
        assert out.latents.shape == (batch, num_tokens, encoder.latent_dim)
        assert out.features["tokens"].shape[:2] == (batch, num_tokens)
        assert torch.equal(encoder(images, num_tokens).latents, out.latents)
        assert decoder(out.latents, out.layout).reconstruction.shape == images.shape
    assert encoder.latent_dim == decoder.latent_dim == config(name)["encoder"]["latent_dim"]


@every_backbone
def test_every_block_of_the_decoder_can_be_tapped_without_changing_the_image(name):
    encoder, decoder = make_pair(name)
    out = encoder(images_for(encoder))
    plain, tapped = (decoder(out.latents, out.layout, taps=taps) for taps in ((), range(1, decoder.depth + 1)))
    assert set(plain.features) <= {"map"}
    assert [name for name in tapped.features if name != "map"] == [f"block{number}" for number in range(1, decoder.depth + 1)]
    assert torch.equal(plain.reconstruction, tapped.reconstruction)
    for tap in (0, decoder.depth + 1):
        with pytest.raises(ValueError, match=f"taps={tap}"):
            decoder(out.latents, out.layout, taps=(tap,))


@every_backbone
def test_an_image_does_not_depend_on_its_batch_in_eval_mode(name):
    encoder, decoder = (part.double().eval() for part in make_pair(name))  # kernels for other batch sizes round differently
    images = images_for(encoder, 3).double()
    whole, alone = encoder(images), encoder(images[1:2])
    torch.testing.assert_close(whole.latents[1:2], alone.latents)
    reconstructions = decoder(whole.latents, whole.layout).reconstruction
    torch.testing.assert_close(reconstructions[1:2], decoder(alone.latents, alone.layout).reconstruction)
    assert not torch.allclose(reconstructions[0], reconstructions[1], atol=1e-2)


@every_backbone
def test_two_passes_in_eval_mode_are_equal(name):
    encoder, decoder = (part.eval() for part in make_pair(name))
    first, second = (encoder(images_for(encoder)) for _ in range(2))
    assert torch.equal(first.latents, second.latents)
    assert torch.equal(*(decoder(first.latents, first.layout).reconstruction for _ in range(2)))


@every_backbone
def test_a_gradient_reaches_the_images_and_every_parameter(name):
    encoder, decoder = make_pair(name)
    images = images_for(encoder).requires_grad_()
    out = encoder(images)
    decoder(out.latents, out.layout).reconstruction.square().mean().backward()
    assert images.grad.abs().amax((1, 2, 3)).min() > 0
    for part in (encoder, decoder):
        assert [key for key, value in part.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0] == []


@every_backbone
def test_the_last_layer_belongs_to_the_decoder_and_is_linear_in_its_weight(name):
    encoder, decoder = make_pair(name)
    assert any(module is decoder.last_layer for module in decoder.modules())
    out = encoder(images_for(encoder))
    with torch.no_grad():
        values = []
        for scale in (0.0, 1.0, 2.0):
            copy = {key: value * scale if value is decoder.last_layer.weight else value for key, value in decoder.named_parameters()}
            values.append(torch.func.functional_call(decoder, copy, (out.latents, out.layout)).reconstruction)
    torch.testing.assert_close(values[2] - values[1], values[1] - values[0], rtol=1e-3, atol=1e-4)
    assert not torch.equal(values[0], values[1])


@every_backbone
@every_part
def test_a_part_built_on_the_meta_device_is_filled_by_reset_parameters(name, part):
    with torch.device("meta"):
        module = make(name, part)
    module.to_empty(device="cpu")
    reference = make(name, part)
    for filled in (module, reference):
        torch.manual_seed(1)
        filled.reset_parameters()
    assert is_equal_state(module, reference)
    assert not is_equal_state(reference, make(name, part))


@every_backbone
@every_part
def test_a_part_is_saved_and_loaded_with_its_configuration(name, part, tmp_path):
    module = make(name, part)
    pretrained.save(module, tmp_path)
    loaded, description = pretrained.load(tmp_path)
    assert description == config(name)[part]
    assert is_equal_state(loaded, module)


@every_backbone
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_parts_of_another_float_type_run_in_it(name, dtype):
    encoder, decoder = (part.to(dtype) for part in make_pair(name))
    out = encoder(images_for(encoder).to(dtype))
    reconstruction = decoder(out.latents, out.layout).reconstruction
    assert out.latents.dtype == reconstruction.dtype == dtype
    assert reconstruction.isfinite().all()
