"""The perceptual distance of feature maps against timm's network."""

import pytest
import timm
import torch
import torch.nn.functional as F

from experiments.config.compose import compose
from experiments.config.errors import ConfigError
from experiments.runs.build import build
from tests.weights_files import random_weights as tensors_of
from tokenizer.losses.feature_maps import FeatureMapLoss
from tokenizer.weights import FILES, MissingWeightsError


@pytest.fixture
def image_pair():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(2, 3, 40, 48, generator=generator) * 2 - 1 for _ in range(2)]


def test_the_distance_is_two_minus_two_cosines_summed_over_stages(image_pair, random_weights):
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    model.load_state_dict(tensors_of("lite0"))
    pixels = [(F.interpolate((image + 1) / 2, size=(32, 32), mode="area") * 255 - 127) / 128 for image in image_pair]
    expected = 0.0
    for blocks in (2, 5):  # the maps of stages 1 and 3
        one, other = (model.blocks[:blocks](model.bn1(model.conv_stem(each))) for each in pixels)
        expected += (2 - 2 * F.cosine_similarity(one, other, dim=1)).mean()
    assert expected > 0.1
    torch.testing.assert_close(FeatureMapLoss("lite0", 32, [1, 3])(*image_pair), expected, rtol=1e-3, atol=0)


def test_only_the_reconstruction_gets_a_gradient_and_equal_images_are_at_no_distance(image_pair, random_weights):
    loss = FeatureMapLoss("lite0", 32, [0, 1, 2, 3])
    reconstruction, images = (image.requires_grad_() for image in image_pair)
    loss(reconstruction, images).backward()
    assert reconstruction.grad.abs().sum() > 0
    assert images.grad is None
    assert loss(reconstruction, reconstruction.detach()) == 0
    assert [*loss.parameters(), *loss.buffers(), *loss.state_dict()] == []


def test_a_step_against_the_gradient_makes_the_distance_smaller(image_pair, random_weights):
    loss = FeatureMapLoss("lite0", 32, [0, 1, 2])
    reconstruction = image_pair[0].requires_grad_()
    before = loss(reconstruction, image_pair[1])
    (gradient,) = torch.autograd.grad(before, reconstruction)
    after = loss(reconstruction - 0.01 * before / gradient.square().sum() * gradient, image_pair[1])
    assert after.item() == pytest.approx(0.99 * before.item(), rel=2e-3)


def test_the_distance_stays_in_fp32_under_autocast(image_pair, random_weights):
    loss = FeatureMapLoss("lite0", 32, [0, 1, 2])
    expected = loss(*image_pair)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(*image_pair)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=0.1)


def test_the_configuration_has_the_trained_network_see_images_at_their_own_size(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    config = compose("train", ["loss=lite0", "image_size=48"]).config["task"]["objective"]["image"]["perceptual"]
    loss = build(config, "loss.image.perceptual")
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    blurred = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2)
    assert loss.features.network.input_size == 48
    assert 0 < loss(0.9 * images, images) < loss(blurred, images)


@pytest.mark.parametrize("stages", ["[]", "[1,0]", "[0,0]", "[3,5]"])
def test_stages_that_do_not_exist_are_refused(stages):
    config = compose("train", ["loss=lite0", f"loss.image.perceptual.stages={stages}"]).config["task"]["objective"]["image"]["perceptual"]
    with pytest.raises(ConfigError) as caught:
        build(config, "loss.image.perceptual")
    assert (caught.value.key, caught.value.expected) == ("loss.image.perceptual.stages", "ascending numbers from 0 to 4")


def test_an_absent_package_is_an_error_of_the_configuration_unless_the_weight_is_zero(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    (tmp_path / FILES["lite0"].filename).mkdir()  # hides the file of the package
    with pytest.raises(MissingWeightsError, match=r"loss\.weights\.perceptual=0 does without it"):
        compose("train", ["loss=lite0"])
    assert compose("train", ["loss=lite0", "loss.weights.perceptual=0"]).config["loss"]["weights"]["perceptual"] == 0
