import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tokenizer.backbones.vqgan import ImageToMap, MapToImage, VQGANDecoder, VQGANEncoder
from tokenizer.interfaces import TokenLayout
from tokenizer.layers.attention import SpatialAttention
from tokenizer.layers.conv import DownsampleAfter, ResidualBlock
from tokenizer.layers.norm import AdaptiveGroupNorm


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small_decoder(**options) -> MapToImage:
    torch.manual_seed(0)
    return MapToImage(6, 8, [1, 2], 1, **{"adaptive_norm": True, "depth_to_space": True, "norm_groups": 4, **options})


# Published: 26.14 M and 50.16 M for the stem of GigaTok, together 76,304,387; 72 M for LlamaGen's VQ-16 with its codebook.
@pytest.mark.parametrize(
    ("attention", "adaptive_norm", "depth_to_space", "encoder", "decoder"),
    [("none", True, True, 26_143_232, 50_161_155), ("lowest", False, False, 29_298_176, 42_449_795)],
    ids=["GigaTok", "LlamaGen"],
)
def test_parameters_are_the_published_ones(attention, adaptive_norm, depth_to_space, encoder, decoder):
    sizes = {"width": 128, "multipliers": [1, 1, 2, 2, 4], "blocks": 2, "attention": attention}
    with torch.device("meta"):
        down = ImageToMap(256, 3, padding="after", **sizes)
        up = MapToImage(256, adaptive_norm=adaptive_norm, depth_to_space=depth_to_space, **sizes)
    assert (parameters(down), parameters(up)) == (encoder, decoder)


def test_attention_is_after_every_block_of_the_lowest_level_and_between_those_of_the_middle():
    network = ImageToMap(4, 3, 8, [1, 2], 2, attention="lowest", norm_groups=4)
    kinds = "".join({ResidualBlock: "R", SpatialAttention: "A"}.get(type(stage), "|") for stage in network.stages)
    assert kinds == "RR|RARA" + "RAR"


def test_the_statistics_of_the_map_are_read_before_each_level():
    network = small_decoder()
    kinds = "".join({ResidualBlock: "R", AdaptiveGroupNorm: "N"}.get(type(stage), "|") for stage in network.stages)
    assert kinds == "RR" + "NRR|" + "NRR"
    cells = torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    seen = []
    for stage in network.stages:
        if isinstance(stage, AdaptiveGroupNorm):
            stage.register_forward_hook(lambda module, inputs, output: seen.append(inputs[1:]))
    network(cells)
    for mean, std in seen:
        torch.testing.assert_close(mean, cells.mean((2, 3)))
        torch.testing.assert_close(std, (cells.var((2, 3)) + 1e-6).sqrt())  # unbiased
    assert len(seen) == 2


def test_zeros_are_added_after_the_last_row_and_column_alone():
    layer = DownsampleAfter(1)
    nn.init.constant_(layer.weight, 1.0)
    nn.init.zeros_(layer.bias)
    images = torch.arange(16.0).view(1, 1, 4, 4)
    # Sums of 3 x 3 pixels that start at every second row and column; pixel (r, c) has the value 4 r + c.
    expected = torch.tensor([[45.0, 39.0], [66.0, 50.0]]).view(1, 1, 2, 2)
    torch.testing.assert_close(layer(images), expected)


def test_without_biases_the_blocks_have_none_and_the_ends_have():
    network = ImageToMap(4, 1, 8, [1, 2], 1, bias=False, norm_groups=4)
    assert sorted(name for name, _ in network.named_parameters() if name.endswith("bias") and "norm" not in name) == [
        "head.bias",
        "stages.1.bias",
    ]


def test_patches_replace_the_finest_levels():
    whole, folded = (ImageToMap(4, 3, 8, [1, 1, 2], 1, patch_size=size, norm_groups=4) for size in (1, 2))
    images = torch.randn(1, 3, 16, 16)
    assert whole(images)[0].shape == folded(images)[0].shape == (1, 4, 4, 4)
    assert len(folded.stages) < len(whole.stages)
    up = small_decoder(patch_size=2)
    assert up(torch.randn(1, 6, 4, 4))[0].shape == (1, 3, 8, 8)


def test_initial_weights_are_those_of_torch():
    torch.manual_seed(0)
    network = ImageToMap(4, 3, 32, [1, 1], 1, norm_groups=4)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            bound = (layer.weight[0].numel()) ** -0.5
            assert 0.9 * bound < layer.weight.abs().max() <= bound
            assert layer.bias.abs().max() <= bound


def test_latents_are_the_map_without_a_projection_and_a_linear_function_of_it_with_one():
    images = torch.randn(2, 3, 8, 8)
    plain = VQGANEncoder(4, ImageToMap(4, 3, 8, [1, 2], 1, norm_groups=4), project=False)
    out = plain(images)
    assert torch.equal(out.latents, out.features["map"].flatten(2).transpose(1, 2))
    projected = VQGANEncoder(3, ImageToMap(4, 3, 8, [1, 2], 1, norm_groups=4))
    out = projected(images)
    expected = F.linear(out.features["tokens"], projected.head.weight[:, :, 0, 0], projected.head.bias)
    torch.testing.assert_close(out.latents, expected)
    with pytest.raises(ValueError, match="latent_dim=3, but the map has 4 channels"):
        VQGANEncoder(3, ImageToMap(4, 3, 8, [1, 2], 1, norm_groups=4), project=False)
    with pytest.raises(ValueError, match="latent_dim=3, but the map has 6 channels"):
        VQGANDecoder(3, small_decoder(), project=False)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("attention", "all"),
        ("padding", "before"),
        ("blocks", 0),
        ("middle_blocks", -1),
        ("patch_size", 3),
        ("multipliers", []),
        ("width", 0),
    ],
)
def test_an_argument_out_of_range_is_named(option, value):
    sizes = {"width": 8, "multipliers": [1, 2], "blocks": 1, "norm_groups": 4}
    with pytest.raises(ValueError, match=option):
        ImageToMap(4, 3, **{**sizes, option: value})


def test_tokens_of_another_kind_are_refused():
    decoder = VQGANDecoder(3, small_decoder())
    with pytest.raises(ValueError, match="4 tokens of kind sequence for 2 x 2 cells"):
        decoder(torch.randn(1, 4, 3), TokenLayout((2, 2), "sequence"))
