"""Image tokenizers: float types, inputs that are refused, and an encoder that merges tokens."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.config.compose import CONF, compose
from tests.merging_tokenizer import merging_tokenizer
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.interfaces import TokenSpec
from tokenizer.pretrained import build

SMALL = ("width=8", "depth=1", "patch_size=8", "backbone.encoder.norm_groups=4", "image_size=16")
"""2 x 2 tokens of 16 x 16 pixels."""
every_quantizer = pytest.mark.parametrize("name", sorted(path.stem for path in Path(CONF, "quantizer").glob("*.yaml")))


def make(name: str = "gsq") -> ImageTokenizer:
    """Tokenizer with random weights in eval mode."""
    torch.manual_seed(0)
    model: ImageTokenizer = build(compose("train", [f"quantizer={name}", *SMALL]).config["task"]["tokenizer"])
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))  # some layers start at zero
    return model.eval()


def images_for(batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_specification_names_the_numbers_of_tokens_that_are_kept():
    """Two groups of 16 codes, 4 x 4 cells; half as many tokens by default."""
    model = merging_tokenizer()
    assert model.tokens(32, 10) == TokenSpec(16, 2, 8, (4, 4), "merged", 10, (8,))
    assert model.tokens(32, 10, [9, 4, 9]) == TokenSpec(16, 2, 9, (4, 4), "merged", 10, (4, 9))


def test_merged_indices_are_decoded_with_their_assignment_and_not_without():
    model, images = merging_tokenizer(), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output, layout = model.encode(images, 5)
        torch.testing.assert_close(model.decode_indices(output.indices, layout), model(images, 5).decoder.reconstruction)
        with pytest.raises(ValueError, match="assignment=None"):
            model.decode_indices(output.indices, model.tokens(32, 0, [5]).layout)


@every_quantizer
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_model_of_any_float_type_runs_in_it_from_images_to_indices_and_back(name, dtype):
    model, images = make(name).to(dtype), images_for().to(dtype).requires_grad_()
    output = model(images)
    assert output.encoder.latents.dtype == output.quantizer.quantized.dtype == output.decoder.reconstruction.dtype == dtype
    quantized, layout = model.encode(images)
    assert torch.equal(quantized.indices, output.quantizer.indices)
    assert torch.equal(model.decode_indices(quantized.indices, layout), output.decoder.reconstruction)
    (output.decoder.reconstruction.float().square().mean() + sum(output.quantizer.losses.values())).backward()
    assert all(value.grad.dtype == dtype for value in [images, *model.parameters()] if value.grad is not None)
    assert images.grad.abs().sum() > 0
    assert torch.equal(model(images.float()).decoder.reconstruction, output.decoder.reconstruction)


@every_quantizer
def test_autocast_runs_from_images_to_indices_and_back(name):
    model, images = make(name), images_for()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(images)
        reconstruction = model.decode_indices(output.quantizer.indices, output.encoder.layout)
    assert output.quantizer.quantized.dtype == output.encoder.latents.dtype == torch.bfloat16
    torch.testing.assert_close(reconstruction, output.decoder.reconstruction, rtol=0.05, atol=0.05)


def test_a_float64_model_agrees_with_the_fp32_one():
    model, precise = make(), make().double()
    torch.testing.assert_close(precise(images_for()).decoder.reconstruction.float(), model(images_for()).decoder.reconstruction)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (torch.zeros(3, 16, 16), r"\(3, 16, 16\).*unsqueeze"),
        (torch.zeros(16, 16), r"\(16, 16\), expected \(B, 3, H, W\)"),
        (torch.zeros(2, 16, 16, 3), r"\(2, 16, 16, 3\).*channels last"),
        (torch.zeros(2, 1, 16, 16), r"\(2, 1, 16, 16\).*gray"),
        (torch.zeros(2, 4, 16, 16), r"\(2, 4, 16, 16\).*RGBA"),
        (torch.zeros(1, 2, 3, 16, 16), r"\(1, 2, 3, 16, 16\)"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), r"torch\.uint8.*127\.5"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.int64), r"torch\.int64"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.bool), r"torch\.bool"),
        (torch.zeros(2, 3, 16, 17), r"image_size=17 is not a multiple of 8"),
        (torch.zeros(2, 3, 0, 16), r"image_size=0 is not a multiple of 8"),
    ],
)
def test_images_of_another_shape_or_type_are_refused(images, expected):
    for method in (make(), make().encode):
        with pytest.raises(ValueError, match=expected):
            method(images)


@pytest.mark.parametrize("value", [255.0, -255.0, float("inf")])
def test_images_far_outside_the_range_are_not_encoded(value):
    images = images_for()
    images[1, 2, 3, 4] = value
    with pytest.raises(ValueError, match=rf"magnitude {abs(value):g}, expected \[-1, 1\]"):
        make().encode(images)


def test_images_slightly_outside_the_range_are_accepted():
    """Normalization with the statistics of ImageNet gives up to 2.7."""
    output, layout = make().encode(2.7 * images_for())
    assert output.indices.shape[1] == layout.grid[0] * layout.grid[1] == 4


@every_quantizer
def test_an_empty_batch_of_images_gives_empty_outputs(name):
    model = make(name)
    output = model(images_for(0))
    assert output.decoder.reconstruction.shape == (0, 3, 16, 16)
    assert model.decode_indices(output.quantizer.indices, output.encoder.layout).shape == (0, 3, 16, 16)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_indices_are_decoded_from_any_integer_type(dtype):
    model = make()
    indices = torch.arange(8).view(1, 4, 2) if model.quantizer.groups == 2 else torch.zeros(1, 4, model.quantizer.groups, dtype=torch.long)
    layout = model.tokens(16).layout
    assert torch.equal(model.decode_indices(indices.to(dtype), layout), model.decode_indices(indices, layout))
