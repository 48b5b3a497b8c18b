from dataclasses import replace

import pytest
import torch
from torch import nn

from tokenizer.backbones.conv import ConvDecoder, ConvEncoder
from tokenizer.interfaces import TokenLayout


def small_encoder(multipliers=(1, 1, 2), layers=1, attention=False, patch_size=2, latent_dim=6) -> ConvEncoder:
    torch.manual_seed(0)
    return ConvEncoder(latent_dim, 8, list(multipliers), layers, attention, patch_size, norm_groups=4)


def small_decoder(multipliers=(1, 1, 2), layers=1, adaptive=True, d2s=True, attention=False, patch_size=2, latent_dim=6) -> ConvDecoder:
    torch.manual_seed(1)
    return ConvDecoder(latent_dim, 8, list(multipliers), layers, adaptive, d2s, attention, patch_size, norm_groups=4)


def millions(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.3f}"


# Table of sizes: multipliers, adaptive norm, depth-to-space, attention, D, layers of encoder and decoder, millions of each.
PUBLISHED = [
    ([1, 2, 2, 4], False, False, False, 8, 2, 2, "30.131", "30.163"),
    ([1, 2, 2, 4], True, False, False, 8, 2, 2, "30.131", "30.191"),
    ([1, 2, 2, 4], False, True, False, 8, 2, 2, "30.131", "40.783"),
    ([1, 2, 2, 4], True, True, False, 8, 2, 2, "30.131", "40.810"),
    ([1, 2, 2, 4], True, True, False, 16, 2, 2, "30.135", "40.872"),
    ([1, 2, 2, 4], True, True, True, 16, 2, 2, "31.187", "41.924"),
    ([1, 2, 4, 4], True, True, False, 16, 2, 2, "38.986", "55.041"),
    ([1, 2, 4, 4], True, True, True, 16, 2, 2, "40.038", "56.092"),
    ([1, 1, 2, 2, 4], True, True, False, 16, 2, 2, "30.874", "42.058"),
    ([1, 2, 2, 2, 4], True, True, False, 16, 2, 2, "33.088", "45.603"),
    ([1, 1, 2, 4, 4], True, True, False, 16, 2, 2, "39.725", "56.227"),
    ([1, 2, 2, 4, 4], True, True, False, 16, [4, 3, 4, 3, 4, 4], [3, 4, 3, 4, 4, 4], "69.682", "91.941"),
    ([1, 1, 2, 2, 4, 4], True, True, False, 128, 2, 2, "42.735", "61.961"),
]


@pytest.mark.parametrize(("multipliers", "adaptive", "d2s", "attention", "dim", "down", "up", "encoder", "decoder"), PUBLISHED)
def test_the_sizes_are_those_of_the_paper(multipliers, adaptive, d2s, attention, dim, down, up, encoder, decoder):
    with torch.device("meta"):
        assert millions(ConvEncoder(dim, 128, multipliers, down, attention)) == encoder
        assert millions(ConvDecoder(dim, 128, multipliers, up, adaptive, d2s, attention)) == decoder


def test_the_decoder_orders_its_layers_as_the_paper_does():
    with torch.device("meta"):
        stages = ConvDecoder(16, 128, [1, 2, 2, 4], 2, True, True, False).stages
    short = {"ResidualBlock": "Res", "AdaptiveGroupNorm": "AGN", "DepthToSpaceUpsample": "D2S"}
    order = " ".join(short[type(stage).__name__] for stage in stages)
    assert order == "Res Res AGN Res Res D2S AGN Res Res Res D2S AGN Res Res D2S AGN Res Res Res"
    changes = [(stage.conv1.in_channels, stage.conv1.out_channels) for stage in stages if hasattr(stage, "conv1")]
    assert [change for change in changes if change[0] != change[1]] == [(512, 256), (256, 128)]


def test_the_encoder_orders_its_layers_as_the_paper_does():
    with torch.device("meta"):
        stages = ConvEncoder(16, 128, [1, 2, 2], [1, 2, 1, 3], True).stages
    short = {"ResidualBlock": "Res", "Downsample": "Down", "SpatialAttention": "Attn"}
    assert " ".join(short[type(stage).__name__] for stage in stages) == "Res Down Res Res Res Down Res Res Attn Res Attn Res"


@pytest.mark.parametrize(("patch_size", "multipliers", "downsample"), [(1, (1, 2, 2), 4), (2, (1, 1, 2), 4), (8, (1, 1, 1, 1), 8)])
@pytest.mark.parametrize("d2s", [False, True])
def test_an_image_comes_back_in_its_own_shape(patch_size, multipliers, downsample, d2s):
    encoder = small_encoder(multipliers, patch_size=patch_size, attention=True, layers=2)
    decoder = small_decoder(multipliers, patch_size=patch_size, attention=True, layers=2, d2s=d2s)
    out = encoder(torch.randn(2, 3, 16, 32))
    assert encoder.downsample == downsample
    assert out.layout == TokenLayout((16 // downsample, 32 // downsample))
    assert out.latents.shape == (2, 512 // downsample**2, 6)
    assert decoder(out.latents, out.layout).reconstruction.shape == (2, 3, 16, 32)


def test_latents_run_row_by_row():
    encoder = small_encoder((1, 1, 1), layers=0, patch_size=4)
    encoder.stem.weight.data *= torch.nn.functional.pad(torch.ones(1, 1), (1, 1, 1, 1))
    encoder.norm = nn.Identity()  # with it, or with the neighbors in the stem, cells would depend on each other
    images = torch.zeros(1, 3, 8, 12)
    changed = images.clone()
    changed[:, :, 4:8, 8:12] = 1.0  # the cell in row 1, column 2 of 2 x 3
    difference = (encoder(changed).latents - encoder(images).latents).abs().sum(-1)[0]
    assert (difference > 0).tolist() == [False, False, False, False, False, True]
    changed = images.clone()
    changed[:, :, 0:4, 4:8] = 1.0  # row 0, column 1
    difference = (encoder(changed).latents - encoder(images).latents).abs().sum(-1)[0]
    assert (difference > 0).tolist() == [False, True, False, False, False, False]


def test_the_decoder_reads_latents_row_by_row():
    decoder = small_decoder((1, 1, 1), layers=0, adaptive=False, patch_size=4)
    for conv in (decoder.stem, decoder.head):
        mask = torch.zeros(3, 3)
        mask[1, 1] = 1.0
        conv.weight.data *= mask
    decoder.norm = nn.Identity()
    latents = torch.zeros(1, 6, 6)
    changed = latents.clone()
    changed[:, 4] = 1.0  # row 1, column 1 of 2 x 3
    layout = TokenLayout((2, 3))
    difference = (decoder(changed, layout).reconstruction - decoder(latents, layout).reconstruction).abs().sum((0, 1))
    assert (difference > 0).nonzero().min(0).values.tolist() == [4, 4]
    assert (difference > 0).nonzero().max(0).values.tolist() == [7, 7]
    assert (difference[4:8, 4:8] > 0).all()


def test_a_gradient_reaches_every_parameter_with_attention_and_nearest_neighbors():
    encoder, decoder = small_encoder(attention=True, layers=2), small_decoder(attention=True, layers=2, adaptive=False, d2s=False)
    out = encoder(torch.randn(2, 3, 16, 16))
    decoder(out.latents, out.layout).reconstruction.square().sum().backward()
    for part in (encoder, decoder):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_a_latent_map_of_one_cell_decodes_to_finite_pixels():
    decoder = small_decoder()
    reconstruction = decoder(torch.randn(2, 1, 6), TokenLayout((1, 1))).reconstruction
    assert torch.isfinite(reconstruction).all()


def test_the_last_layer_computes_the_pixels():
    decoder = small_decoder(patch_size=2)
    decoder.last_layer.weight.data.zero_()
    decoder.last_layer.bias.data.fill_(0.25)
    reconstruction = decoder(torch.randn(1, 4, 6), TokenLayout((2, 2))).reconstruction
    torch.testing.assert_close(reconstruction, torch.full((1, 3, 8, 8), 0.25))


def test_channels_last_weights_and_bfloat16_autocast_give_nearly_the_same_image():
    encoder, decoder = small_encoder(attention=True, layers=2), small_decoder(attention=True, layers=2)
    images = torch.randn(2, 3, 16, 16)
    out = encoder(images)
    plain = decoder(out.latents, out.layout).reconstruction
    encoder.to(memory_format=torch.channels_last)
    decoder.to(memory_format=torch.channels_last)
    again = encoder(images)
    torch.testing.assert_close(decoder(again.latents, again.layout).reconstruction, plain, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = encoder(images)
        rough = decoder(coarse.latents, coarse.layout).reconstruction
    assert ((rough.float() - plain).square().mean() / plain.square().mean()).sqrt() < 0.05


def test_layers_of_the_wrong_length_are_refused():
    with pytest.raises(ValueError, match=r"layers \[2, 2\] has 2 entries, expected 3"):
        small_encoder((1, 2), layers=[2, 2])
    with pytest.raises(ValueError, match=r"multipliers=\[\]"):
        small_decoder(())


def test_a_width_that_the_norm_groups_do_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"48 channels .* 32 groups"):
        ConvEncoder(8, 48, [1, 2], 1, False)
    with pytest.raises(ValueError, match=r"48 channels .* 32 groups"):
        ConvDecoder(8, 48, [1], 1, False, False, False)


def test_an_encoder_that_returns_every_cell_refuses_a_different_number_of_tokens():
    encoder = small_encoder()
    assert encoder(torch.randn(1, 3, 8, 8), 4).latents.shape == (1, 4, 6)
    with pytest.raises(ValueError, match=r"num_tokens=3, .* returns 4 tokens"):
        encoder(torch.randn(1, 3, 8, 8), 3)


def test_a_decoder_of_rasters_refuses_other_layouts():
    decoder, layout = small_decoder(), TokenLayout((2, 2))
    with pytest.raises(ValueError, match="3 tokens of kind raster for 2 x 2 cells"):
        decoder(torch.randn(1, 3, 6), layout)
    with pytest.raises(ValueError, match="kind sequence"):
        decoder(torch.randn(1, 4, 6), replace(layout, kind="sequence"))


def test_a_negative_number_of_blocks_is_refused():
    for layers in (-1, [1, -1, 1]):
        with pytest.raises(ValueError, match="layers=-1"):
            ConvEncoder(latent_dim=4, width=32, multipliers=[1, 1], layers=layers, mid_attention=False)
