import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tokenizer.layers.conv import DepthToSpaceUpsample, Downsample, NearestUpsample, ResidualBlock, ScaledConv2d, reset_layers


@pytest.mark.parametrize("gain", [1.0, 1.6761 * 0.70711])
def test_a_convolution_starts_with_the_stated_spread(gain):
    torch.manual_seed(0)
    conv = ScaledConv2d(64, 128, 3, gain=gain)
    assert conv.weight.std().item() == pytest.approx(gain / (64 * 9) ** 0.5, rel=0.01)
    assert 0 < conv.bias.abs().max().item() <= 1 / (64 * 9) ** 0.5


def test_a_residual_block_adds_half_a_unit_of_variance_at_its_start():
    torch.manual_seed(0)
    images = torch.randn(4, 64, 16, 16)
    inner = ResidualBlock(64, 64, norm_groups=32)(images) - images
    assert inner.var().item() == pytest.approx(0.5, rel=0.1)  # gain 1.6761 undoes the SiLU, 0.70711 squared is left


def test_the_convolutions_of_a_residual_block_start_with_their_own_gains():
    torch.manual_seed(0)
    block = ResidualBlock(64, 64, norm_groups=32)
    unit = (64 * 9) ** -0.5
    assert block.conv1.weight.std().item() == pytest.approx(1.6761 * unit, rel=0.02)
    assert block.conv2.weight.std().item() == pytest.approx(1.6761 * 0.70711 * unit, rel=0.02)


def test_a_residual_block_is_its_formula():
    torch.manual_seed(0)
    block = ResidualBlock(8, 16, norm_groups=4)
    x = torch.randn(2, 8, 5, 7)
    inner = F.silu(F.group_norm(x, 4, block.norm1.weight, block.norm1.bias))
    inner = F.conv2d(inner, block.conv1.weight, block.conv1.bias, padding=1)
    inner = F.silu(F.group_norm(inner, 4, block.norm2.weight, block.norm2.bias))
    inner = F.conv2d(inner, block.conv2.weight, block.conv2.bias, padding=1)
    skip = torch.einsum("oi,bihw->bohw", block.skip.weight[:, :, 0, 0], x) + block.skip.bias[:, None, None]
    torch.testing.assert_close(block(x), skip + inner)


def test_a_residual_block_of_constant_width_has_no_weights_in_its_skip():
    assert list(ResidualBlock(8, 8, norm_groups=4).skip.parameters()) == []


def test_downsampling_halves_and_upsampling_doubles_the_map():
    x = torch.randn(2, 8, 6, 4)
    assert Downsample(8)(x).shape == (2, 8, 3, 2)
    assert NearestUpsample(8)(x).shape == (2, 8, 12, 8)
    assert DepthToSpaceUpsample(8)(x).shape == (2, 8, 12, 8)


def test_depth_to_space_puts_four_channels_into_the_corners_of_a_cell():
    layer = DepthToSpaceUpsample(2)
    nn.init.zeros_(layer.conv.weight)
    layer.conv.bias.data = torch.arange(8.0)  # channel (c, row, column)
    out = layer(torch.zeros(1, 2, 1, 1))
    assert out[0].tolist() == [[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0], [6.0, 7.0]]]


def test_nearest_upsampling_repeats_each_cell_before_the_convolution():
    layer = NearestUpsample(1)
    nn.init.zeros_(layer.conv.weight)
    nn.init.zeros_(layer.conv.bias)
    layer.conv.weight.data[0, 0, 1, 1] = 1.0
    out = layer(torch.tensor([[[[1.0, 2.0]]]]))
    assert out[0, 0].tolist() == [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]


def test_resetting_layers_draws_what_construction_drew():
    torch.manual_seed(0)
    built = nn.Sequential(ResidualBlock(8, 16, 4), DepthToSpaceUpsample(16))
    with torch.device("meta"):
        filled = nn.Sequential(ResidualBlock(8, 16, 4), DepthToSpaceUpsample(16))
    filled.to_empty(device="cpu")
    torch.manual_seed(0)
    reset_layers(filled)
    for name, tensor in built.state_dict().items():
        assert torch.equal(filled.state_dict()[name], tensor), name
