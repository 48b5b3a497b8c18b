import pytest
import timm
import torch
import torch.nn.functional as F

from tests.weights_files import random_weights as tensors_of
from tokenizer.losses.features import FeatureLoss
from tokenizer.weights import MissingWeightsError

SIZES = {"dinov2_vits14_reg": 28, "resnet50_a1": 64}


@pytest.fixture
def image_pair():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(2, 3, 40, 32, generator=generator) * 2 - 1 for _ in range(2)]


def test_the_loss_is_the_squared_error_of_timms_logits(image_pair, random_weights):
    model = timm.create_model("resnet50", pretrained=False).eval()
    model.load_state_dict(tensors_of("resnet50_a1"))
    mean, std = [torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    features, target = [model(F.interpolate(((x + 1) / 2 - mean) / std, size=(64, 64), mode="area")) for x in image_pair]
    torch.testing.assert_close(FeatureLoss("resnet50_a1", 64)(*image_pair), (features - target).square().mean(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("network", SIZES)
def test_only_the_reconstruction_gets_a_gradient_and_equal_images_are_at_no_distance(network, image_pair, random_weights):
    loss = FeatureLoss(network, SIZES[network])
    reconstruction, images = (image.requires_grad_() for image in image_pair)
    value = loss(reconstruction, images)
    value.backward()
    assert value.shape == ()
    assert value > 0
    assert reconstruction.grad.abs().sum() > 0
    assert images.grad is None
    assert loss(reconstruction, reconstruction.detach()) == 0


def test_a_step_against_the_gradient_makes_the_loss_smaller(image_pair, random_weights):
    loss = FeatureLoss("dinov2_vits14_reg", 28)
    reconstruction = image_pair[0].requires_grad_()
    before = loss(reconstruction, image_pair[1])
    (gradient,) = torch.autograd.grad(before, reconstruction)
    after = loss(reconstruction - 0.01 * before / gradient.square().sum() * gradient, image_pair[1])
    assert after.item() == pytest.approx(0.99 * before.item(), rel=2e-3)


def test_the_loss_stays_in_fp32_under_autocast(image_pair, random_weights):
    loss = FeatureLoss("dinov2_vits14_reg", 28)
    expected = loss(*image_pair)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(*image_pair)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=0.1)


def test_the_network_is_neither_trained_nor_saved(random_weights):
    loss = FeatureLoss("dinov2_vits14_reg", 28).train()
    assert [*loss.parameters(), *loss.buffers(), *loss.state_dict()] == []
    assert not any(module.training for module in loss.features.network.modules())


def test_a_wrong_network_or_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    with pytest.raises(
        ValueError, match=r"loss\.image\.perceptual\.network=alexnet, expected one of dinov2_vits14_reg, resnet50_a1, vgg16"
    ):
        FeatureLoss("alexnet", 224)
    with pytest.raises(ValueError, match=r"loss\.image\.perceptual\.input_size=225: expected a multiple of 14"):
        FeatureLoss("dinov2_vits14_reg", 225)


def test_missing_weights_are_reported_in_one_line_with_an_alternative(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeightsError, match=r"^ResNet-50's logits as a loss needs .*loss\.weights\.perceptual=0 does without it$"):
        FeatureLoss("resnet50_a1", 224)
