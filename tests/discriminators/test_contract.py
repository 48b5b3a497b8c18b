"""Contract of every discriminator with a file in conf/discriminator."""

import re
from functools import cache

import pytest
import torch
from torch import Tensor

from experiments.config.compose import CONF, compose
from tokenizer.interfaces import Discriminator
from tokenizer.pretrained import build

NAMES = sorted(path.stem for path in (CONF / "discriminator").glob("*.yaml") if path.stem != "none")
SMALL = {"stylegan": ["discriminator.width=16"], "dino": ["discriminator_input_size=42", "discriminator.augmentation=[]"]}
every_discriminator = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def weights(random_weights):
    """Random weights in place of the published ones."""


@cache
def config(name: str) -> dict:
    return compose("train", [f"discriminator={name}", *SMALL.get(name, [])]).config["discriminator"]


def make(name: str, seed: int = 0) -> Discriminator:
    torch.manual_seed(seed)
    return build(config(name))


def images_for(batch: int) -> Tensor:
    return torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def refusal(discriminator: Discriminator, side: int) -> str | None:
    try:
        assert discriminator(torch.empty(2, 3, side, side)).shape[1] >= 1
    except ValueError as error:
        return str(error)
    return None


@every_discriminator
def test_an_image_gives_a_row_of_logits_whatever_the_batch(name):
    discriminator = make(name)
    few, many = discriminator(images_for(2)), discriminator(images_for(3))
    assert few.dim() == 2
    assert few.shape[1] >= 1
    assert (len(few), len(many), few.shape[1]) == (2, 3, many.shape[1])
    assert few.dtype == torch.float32
    assert few.isfinite().all()


@every_discriminator
def test_logits_in_eval_mode_depend_on_the_image_alone(name):
    discriminator, images = make(name).eval(), images_for(3)
    logits = discriminator(images)
    torch.testing.assert_close(discriminator(images[1:2]), logits[1:2], rtol=1e-3, atol=1e-4)
    assert not torch.equal(logits[0], logits[1])


@every_discriminator
def test_a_gradient_reaches_every_image_and_every_trained_parameter(name):
    discriminator, images = make(name).eval(), images_for(2).requires_grad_()  # a bias before batch norm has none in training mode
    logits = discriminator(images)
    (logits * torch.rand(logits.shape)).sum().backward()
    assert images.grad.abs().amax((1, 2, 3)).min() > 0
    assert [key for key, value in discriminator.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0] == []


@every_discriminator
def test_images_too_small_are_refused_by_one_message_and_all_larger_ones_are_not(name):
    with torch.device("meta"):
        discriminator = make(name)
        errors = {side: refusal(discriminator, side) for side in (1, 2, 5, 6, 11, 12, 16, 23, 24, 31, 32, 40)}
    refused = {side: error for side, error in errors.items() if error}
    for error in refused.values():
        smallest = re.search(r"pixels, expected at least (\d+) per side; raise image_size or lower .*discriminator\.", error)
        assert smallest, error
        assert set(refused) == {side for side in errors if side < int(smallest[1])}
    assert errors[40] is None


@every_discriminator
def test_a_discriminator_built_on_the_meta_device_is_filled_by_reset_parameters(name):
    expected = make(name)
    with torch.device("meta"):
        discriminator = make(name)
    discriminator.to_empty(device="cpu")
    torch.manual_seed(0)
    discriminator.reset_parameters()
    filled = discriminator.state_dict()
    assert {key for key, value in expected.state_dict().items() if not torch.equal(filled[key], value)} == set()
    assert torch.equal(discriminator.eval()(images_for(1)), expected.eval()(images_for(1)))


@every_discriminator
def test_a_saved_state_gives_the_same_logits(name):
    discriminator, other = make(name).eval(), make(name, seed=1).eval()
    images = images_for(1)
    expected = discriminator(images)
    assert not torch.equal(other(images), expected)
    other.load_state_dict(discriminator.state_dict())
    assert torch.equal(other(images), expected)


@every_discriminator
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_discriminator_of_another_float_type_takes_images_of_its_own_and_of_fp32(name, dtype):
    discriminator = make(name).to(dtype).eval()
    for images in (images_for(2).to(dtype).requires_grad_(), images_for(2).requires_grad_()):
        logits = discriminator(images)
        logits.sum().backward()
        assert logits.dtype == dtype
        assert logits.isfinite().all()
        assert images.grad.abs().sum() > 0
