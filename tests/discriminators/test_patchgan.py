import pytest
import torch
import torch.nn.functional as F

from tokenizer.discriminators.patchgan import PatchDiscriminator

PAPER = {"width": 64, "layers": 3, "normalization": "batch", "norm_groups": 32, "input_range": "unit"}


def patchgan(**changes) -> PatchDiscriminator:
    return PatchDiscriminator(**(PAPER | changes))


def test_the_paper_discriminator_has_2_766_million_parameters():
    with torch.device("meta"):
        discriminator = patchgan()
    assert f"{sum(parameter.numel() for parameter in discriminator.parameters()) / 1e6:.3f}" == "2.766"


def test_a_bias_of_the_head_shifts_every_logit():
    torch.manual_seed(0)
    discriminator = patchgan(width=4, layers=2, normalization="group", norm_groups=2, head_bias=True)
    images = torch.rand(2, 3, 16, 20) * 2 - 1
    before = discriminator(images)
    discriminator.head.bias.data += 0.5
    torch.testing.assert_close(discriminator(images), before + 0.5)
    assert patchgan(head_bias=False).head.bias is None


@pytest.mark.parametrize(("side", "patches"), [(128, 14), (256, 30)])
def test_the_paper_discriminator_gives_a_square_of_logits(side, patches):
    with torch.device("meta"):
        logits = patchgan()(torch.empty(2, 3, side, side))
    assert logits.shape == (2, patches**2)


def test_a_discriminator_is_its_formula():
    torch.manual_seed(0)
    discriminator = patchgan(width=4, layers=2, normalization="group", norm_groups=2)
    images = torch.rand(2, 3, 16, 20) * 2 - 1
    weights = dict(discriminator.named_parameters())
    x = F.conv2d((images + 1) / 2, weights["stages.0.weight"], weights["stages.0.bias"], stride=2, padding=1)
    x = F.leaky_relu(x, 0.2)
    x = F.group_norm(F.conv2d(x, weights["stages.2.weight"], stride=2, padding=1), 2)
    x = F.leaky_relu(x, 0.2)
    x = F.group_norm(F.conv2d(x, weights["stages.5.weight"], stride=1, padding=1), 2)
    x = F.leaky_relu(x, 0.2)
    x = F.conv2d(x, weights["head.weight"], stride=1, padding=1)
    assert x.shape == (2, 1, 2, 3)
    torch.testing.assert_close(discriminator(images), x.reshape(2, 6))
    assert set(weights) == {f"stages.{place}.{kind}" for place in (0, 3, 6) for kind in ("weight", "bias")} | {
        "stages.2.weight",
        "stages.5.weight",
        "head.weight",
    }


def test_widths_double_up_to_eightfold():
    with torch.device("meta"):
        discriminator = patchgan(width=8, layers=5)
    widths = [layer.out_channels for layer in discriminator.stages if hasattr(layer, "out_channels")]
    strides = [layer.stride[0] for layer in discriminator.stages if hasattr(layer, "stride")]
    assert widths == [8, 16, 32, 64, 64, 64]
    assert strides == [2, 2, 2, 2, 2, 1]


def test_input_range_decides_the_input_of_the_first_layer():
    captured = []
    for choice in ("unit", "symmetric"):
        discriminator = patchgan(width=4, layers=1, input_range=choice)
        discriminator.stages[0].register_forward_hook(lambda module, inputs, output: captured.append(inputs[0]))
        discriminator(torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1).expand(1, 3, 8, 8))
    assert captured[0][0, :, 0, 0].tolist() == [0.0, 0.5, 1.0]
    assert captured[1][0, :, 0, 0].tolist() == [-1.0, 0.0, 1.0]


def test_weights_are_initialized_with_unit_gain_and_the_last_with_a_tenth():
    torch.manual_seed(0)
    discriminator = patchgan(width=32)
    assert discriminator.stages[2].weight.std().item() == pytest.approx((32 * 16) ** -0.5, rel=0.03)
    assert discriminator.head.weight.std().item() == pytest.approx(0.1 * (256 * 16) ** -0.5, rel=0.05)


@pytest.mark.parametrize(("layers", "side"), [(1, 6), (2, 12), (3, 24)])
def test_images_without_a_single_patch_are_refused_and_one_pixel_step_more_is_not(layers, side):
    discriminator = patchgan(width=4, layers=layers, normalization="group", norm_groups=2)
    assert discriminator(torch.zeros(1, 3, side, side)).shape == (1, 1)
    with pytest.raises(
        ValueError, match=rf"{side} x {side - 1} pixels, expected at least {side} per side; raise image_size or lower discriminator.layers"
    ):
        discriminator(torch.zeros(1, 3, side, side - 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"normalization": "layer"}, "discriminator.normalization=layer, expected one of batch, group"),
        ({"input_range": "bytes"}, "discriminator.input_range=bytes, expected one of unit, symmetric"),
        ({"layers": 0}, "discriminator.layers=0, expected at least 1"),
        ({"normalization": "group", "width": 20}, "40 channels do not divide into 32 groups"),
    ],
)
def test_a_wrong_choice_is_refused_with_its_key(arguments, message):
    with pytest.raises(ValueError, match=message):
        patchgan(**arguments)
