import warnings

import lpips
import pytest
import torch
from torch import nn

from tokenizer.losses.perceptual import LPIPSLoss
from tokenizer.weights import FILES, MissingWeightsError

# Shapes of the convolutions in torchvision's files: place, output channels, input channels, kernel.
CONVOLUTIONS = {
    "vgg16": [
        (place, wide, narrow, 3)
        for place, wide, narrow in [
            *[(0, 64, 3), (2, 64, 64), (5, 128, 64), (7, 128, 128), (10, 256, 128), (12, 256, 256), (14, 256, 256)],
            *[(17, 512, 256), (19, 512, 512), (21, 512, 512), (24, 512, 512), (26, 512, 512), (28, 512, 512)],
        ]
    ],
    "alexnet": [(0, 64, 3, 11), (3, 192, 64, 5), (6, 384, 192, 3), (8, 256, 384, 3), (10, 256, 256, 3)],
}
PACKAGE_NAMES = {"vgg16": "vgg", "alexnet": "alex"}


def random_weights(network: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    weights = {"classifier.6.bias": torch.zeros(10)}
    for place, wide, narrow, kernel in CONVOLUTIONS[network]:
        weights[f"features.{place}.weight"] = torch.randn(wide, narrow, kernel, kernel) * (2 / (narrow * kernel**2)) ** 0.5
        weights[f"features.{place}.bias"] = torch.randn(wide) * 0.1
    return weights


@pytest.fixture(scope="module", params=["vgg16", "alexnet"])
def network(request):
    return request.param


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    torch.save(random_weights(network), path / FILES[network].filename)
    return path


@pytest.fixture
def image_pair():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(2, 3, 40, 32, generator=generator) * 2 - 1 for _ in range(2)]


def package_network(network: str) -> nn.Module:
    """LPIPS of the package with the same random classifier."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = lpips.LPIPS(net=PACKAGE_NAMES[network], pnet_rand=True, pretrained=False, verbose=False)
    reference.to_empty(device="cpu")
    trunk = {name.split(".", 1)[1]: tensor for name, tensor in random_weights(network).items() if name.startswith("features.")}
    for name, tensor in reference.net.state_dict().items():
        tensor.copy_(trunk[name.split(".", 1)[1]])
    path = f"{lpips.__path__[0]}/weights/v0.1/{PACKAGE_NAMES[network]}.pth"
    loaded = reference.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=False)
    assert loaded.unexpected_keys == []
    assert {f"lin{number}.model.1.weight" for number in range(5)}.isdisjoint(loaded.missing_keys)
    reference.scaling_layer = lpips.ScalingLayer()
    return reference.eval()


def test_the_loss_is_the_mean_of_the_package_and_takes_symmetric_images(network, folder, image_pair, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(folder))
    reference = package_network(network)
    expected = reference(*image_pair).mean()
    torch.testing.assert_close(LPIPSLoss(network, "symmetric")(*image_pair), expected, rtol=1e-4, atol=1e-6)
    unit = reference(*(image / 2 + 0.5 for image in image_pair)).mean()
    torch.testing.assert_close(LPIPSLoss(network, input_range="unit")(*image_pair), unit, rtol=1e-4, atol=1e-6)
    assert abs(unit / expected - 1) > 0.05


def test_only_the_reconstruction_gets_a_gradient_and_a_zero_one_where_images_agree(network, folder, image_pair, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(folder))
    loss = LPIPSLoss(network, "symmetric")
    reconstruction, images = (image.requires_grad_() for image in image_pair)
    loss(reconstruction, images).backward()
    assert torch.isfinite(reconstruction.grad).all()
    assert reconstruction.grad.abs().sum() > 0
    assert images.grad is None
    reconstruction.grad = None
    same = loss(reconstruction, reconstruction.detach())
    same.backward()
    assert same.item() == 0
    assert reconstruction.grad.abs().sum() == 0


def test_cells_whose_features_are_all_zero_are_at_distance_zero_with_a_finite_gradient(folder, network, image_pair, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(folder))
    loss = LPIPSLoss(network, "symmetric")
    for name, parameter in loss.distance.network.named_parameters():
        if name.endswith("bias"):
            parameter.fill_(-100.0)  # every relu is silent
    reconstruction = image_pair[0].requires_grad_()
    value = loss(reconstruction, image_pair[1])
    value.backward()
    assert value.item() == 0
    assert torch.isfinite(reconstruction.grad).all()


def test_the_network_is_neither_trained_nor_saved(network, folder, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(folder))
    loss = LPIPSLoss(network, "symmetric").train()
    assert list(loss.parameters()) == []
    assert list(loss.buffers()) == []
    assert loss.state_dict() == {}


def test_a_loss_built_on_the_meta_device_has_real_weights(network, folder, image_pair, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(folder))
    with torch.device("meta"):
        loss = LPIPSLoss(network, "symmetric")
    loss.to_empty(device="cpu")
    torch.testing.assert_close(loss(*image_pair), LPIPSLoss(network, "symmetric")(*image_pair))


def test_a_file_with_a_missing_or_unknown_tensor_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    path = tmp_path / FILES["alexnet"].filename
    weights = random_weights("alexnet")
    torch.save({name: tensor for name, tensor in weights.items() if name != "features.3.bias"}, path)
    with pytest.raises(ValueError, match=r"alexnet-owt-7be5be79\.pth cannot be read"):
        LPIPSLoss("alexnet", "symmetric")
    torch.save(weights | {"features.99.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"alexnet-owt-7be5be79\.pth cannot be read"):
        LPIPSLoss("alexnet", "symmetric")


@pytest.mark.parametrize("damage", [lambda content: content[:-1000], lambda content: b"", lambda content: b"<html>not found</html>"])
def test_a_damaged_file_is_reported_in_one_line_with_a_replacement(damage, tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    path = tmp_path / FILES["alexnet"].filename
    torch.save(random_weights("alexnet"), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"^{path} cannot be read as the weights of alexnet") as caught:
        LPIPSLoss("alexnet", "symmetric")
    assert "\n" not in str(caught.value)
    assert "`python -m experiments.weights fetch alexnet`" in str(caught.value)


def test_a_file_that_is_not_the_published_one_is_used_with_a_warning(network, folder, monkeypatch, caplog):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(folder))
    LPIPSLoss(network, "symmetric")
    assert f"{FILES[network].filename} is not the published file" in caplog.text


def test_missing_weights_are_reported_in_one_line_with_location_source_and_alternative(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeightsError) as caught:
        LPIPSLoss("vgg16", "symmetric")
    message = str(caught.value)
    assert "\n" not in message
    for part in (str(tmp_path / "vgg16-397923af.pth"), "experiments.weights fetch vgg16", "loss.weights.perceptual=0"):
        assert part in message


def test_an_unknown_network_or_range_is_refused():
    with pytest.raises(ValueError, match=r"loss\.image\.perceptual\.network=resnet, expected one of vgg16, alexnet"):
        LPIPSLoss("resnet", "symmetric")
    with pytest.raises(ValueError, match=r"loss\.image\.perceptual\.input_range=bytes, expected one of symmetric, unit"):
        LPIPSLoss("vgg16", "bytes")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_reconstructions_of_another_float_type_are_compared(dtype, random_weights):
    loss, images = LPIPSLoss("vgg16", "symmetric"), torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    reconstruction = (0.5 * images).to(dtype).requires_grad_()
    distance = loss(reconstruction, images)
    distance.backward()
    torch.testing.assert_close(distance, loss(0.5 * images, images), rtol=0.02, atol=0.0)
    assert reconstruction.grad.abs().sum() > 0
