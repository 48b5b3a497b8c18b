import pytest
import torch
import torch.nn.functional as F

from tokenizer.discriminators.stylegan import StyleGANDiscriminator

PAPER = {"width": 128, "multipliers": [2, 4, 4, 4, 4], "negative_slope": 0.01, "input_range": "unit", "augmentation": []}
SMALL = {"width": 4, "multipliers": [2, 3]}


def stylegan(**changes) -> StyleGANDiscriminator:
    return StyleGANDiscriminator(**(PAPER | changes))


def test_the_paper_discriminator_has_22_16_million_parameters():
    with torch.device("meta"):
        discriminator = stylegan()
    convolutions = [(3, 128), (128, 256), (256, 256), (256, 512), *[(512, 512)] * 8]  # 3x3: first, two in each of five blocks, last
    skips = [(128, 256), (256, 512), (512, 512), (512, 512), (512, 512)]
    linear = [(512, 512), (512, 1)]
    expected = sum(9 * a * b + b for a, b in convolutions) + sum(a * b + b for a, b in skips + linear)
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == expected == 22_163_201


def downsample(x: torch.Tensor) -> torch.Tensor:
    """Blur, then mean of 2x2 cells, pixel by pixel."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    rows = (padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]) / 4
    blurred = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4
    return F.avg_pool2d(blurred, 2)


@pytest.mark.parametrize("size", [(2, 2), (5, 8), (16, 16)])
def test_downsampling_leaves_ones_as_they_are(size):
    downsampling = next(part for part in stylegan(**SMALL).modules() if type(part).__name__ == "_BlurredDownsampling")
    assert torch.equal(downsampling(torch.ones(1, 4, *size)), torch.ones(1, 4, size[0] // 2, size[1] // 2))


@pytest.mark.parametrize("size", [(16, 16), (9, 14)])
def test_a_discriminator_is_its_formula(size):
    torch.manual_seed(0)
    discriminator = stylegan(**SMALL)
    images = torch.rand(2, 3, *size) * 2 - 1
    weights = dict(discriminator.named_parameters())

    def conv(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding="same")

    x = F.leaky_relu(conv((images + 1) / 2, "stem.0"), 0.01)
    for block in ("blocks.0", "blocks.1"):
        main = downsample(F.leaky_relu(conv(x, f"{block}.conv1"), 0.01))
        x = F.leaky_relu(conv(main, f"{block}.conv2"), 0.01) + conv(downsample(x), f"{block}.skip")
    x = F.leaky_relu(conv(x, "head.0"), 0.01).mean((2, 3))
    x = F.leaky_relu(F.linear(x, weights["head.4.weight"], weights["head.4.bias"]), 0.01)
    torch.testing.assert_close(discriminator(images), F.linear(x, weights["head.6.weight"], weights["head.6.bias"]))
    assert all(name.startswith(("stem", "blocks", "head")) and name.endswith(("weight", "bias")) for name in discriminator.state_dict())


@pytest.mark.parametrize("side", [32, 50, 128])
def test_any_size_from_32_pixels_gives_one_logit_an_image(side):
    with torch.device("meta"):
        assert stylegan()(torch.empty(2, 3, side, side + 1)).shape == (2, 1)


def test_input_range_decides_the_input_of_the_first_layer():
    captured = []
    for choice in ("unit", "symmetric"):
        discriminator = stylegan(**SMALL, input_range=choice)
        discriminator.stem.register_forward_hook(lambda module, inputs, output: captured.append(inputs[0]))
        discriminator(torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1).expand(1, 3, 8, 8))
    assert captured[0][0, :, 0, 0].tolist() == [0.0, 0.5, 1.0]
    assert captured[1][0, :, 0, 0].tolist() == [-1.0, 0.0, 1.0]


def test_augmentation_happens_in_the_unit_range():
    for choice in ("unit", "symmetric"):
        discriminator = stylegan(**SMALL, input_range=choice, augmentation=["cutout"])
        captured, images = [], torch.full((2, 3, 16, 16), 0.5)
        discriminator.augmentation.register_forward_hook(
            lambda module, inputs, output, captured=captured: captured.extend([inputs[0], output])
        )
        discriminator.stem.register_forward_hook(lambda module, inputs, output, captured=captured: captured.append(inputs[0]))
        discriminator(images)
        before, after, stem_input = captured
        assert before.unique().tolist() == [0.75]
        assert after.unique().tolist() == [0.0, 0.75]
        assert torch.equal(stem_input, after if choice == "unit" else 2 * after - 1)


def test_it_can_be_differentiated_twice():
    discriminator = stylegan(**SMALL)
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    (grad,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    grad.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for name, p in discriminator.named_parameters() if name.endswith("weight"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_range": "bytes"}, "discriminator.input_range=bytes, expected one of unit, symmetric"),
        ({"multipliers": []}, r"discriminator.multipliers=\[\]"),
        ({"multipliers": [2, 0]}, r"discriminator.multipliers=\[2, 0\]"),
        ({"width": 0}, "discriminator.width=0"),
        ({"augmentation": ["hue"]}, "discriminator.augmentation has 'hue'"),
    ],
)
def test_a_wrong_choice_is_refused_with_its_key(arguments, message):
    with pytest.raises(ValueError, match=message):
        stylegan(**arguments)


def test_half_precision_images_are_augmented_in_full_precision():
    captured = []
    discriminator = stylegan(**SMALL, augmentation=["color"])
    discriminator.augmentation.register_forward_pre_hook(lambda module, inputs: captured.append(inputs[0].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        discriminator(torch.zeros(2, 3, 8, 8, dtype=torch.bfloat16))
    assert captured == [torch.float32]
