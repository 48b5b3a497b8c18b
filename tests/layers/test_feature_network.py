import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.vgg import _filter_fn as name_as_in_timm

from tests.weights_files import random_weights as tensors_of
from tokenizer.layers.feature_network import NETWORKS, FeatureNetwork
from tokenizer.layers.frozen import Frozen
from tokenizer.weights import FILES, MissingWeightsError

MEAN, STD = [torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
PARAMETERS = {"dinov2_vits14_reg": 22_058_112, "resnet50_a1": 25_557_032, "vgg16": 138_357_544}


def network(name: str, input_size: int) -> Frozen:
    return Frozen(FeatureNetwork(name, input_size, key="the_key", without="something=else"))


def images(side: int = 40) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_dino_returns_the_normalized_class_token_of_the_published_network(random_weights):
    published = tensors_of("dinov2_vits14_reg")
    table = published["pos_embed"][:, 1:].reshape(1, 37, 37, 384).permute(0, 3, 1, 2)
    table = F.interpolate(table, size=(4, 4), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    pixels = (F.interpolate(images(), size=(56, 56), mode="area") - MEAN) / STD
    patches = F.conv2d(pixels, published["patch_embed.proj.weight"], published["patch_embed.proj.bias"], stride=14)
    patches = patches.flatten(2).transpose(1, 2) + table
    first = (published["cls_token"] + published["pos_embed"][:, :1]).expand(2, 1, 384)
    reference = timm.create_model("vit_small_patch14_reg4_dinov2", pretrained=False).eval()
    named_alike = {name: tensor for name, tensor in published.items() if name.partition(".")[0] in ("blocks", "norm")}
    assert reference.load_state_dict(named_alike, strict=False).unexpected_keys == []
    tokens = reference.blocks(torch.cat([first, published["register_tokens"].expand(2, 4, 384), patches], dim=1))
    torch.testing.assert_close(network("dinov2_vits14_reg", 56)(images()), reference.norm(tokens)[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "reference"), [("resnet50_a1", "resnet50"), pytest.param("vgg16", "vgg16", marks=pytest.mark.slow)])
def test_a_classifier_returns_its_logits(name, reference, random_weights):
    published = tensors_of(name)
    model = timm.create_model(reference, pretrained=False).eval()
    model.load_state_dict(name_as_in_timm(published) if name == "vgg16" else published)
    expected = model((F.adaptive_avg_pool2d(images(), 32) - MEAN) / STD)
    assert expected.std() > 0
    torch.testing.assert_close(network(name, 32)(images()), expected, rtol=1e-3, atol=1e-3 * expected.std().item())


def test_resizing_and_normalizing_commute(random_weights):
    before = network("resnet50_a1", 32).network.prepare(images(48))
    after = F.interpolate((images(48) - MEAN) / STD, size=(32, 32), mode="area")
    torch.testing.assert_close(before, after)


def test_a_table_of_positions_is_resized_unless_the_size_is_the_published_one(random_weights):
    table = tensors_of("dinov2_vits14_reg")["pos_embed"][:, 1:]
    torch.testing.assert_close(network("dinov2_vits14_reg", 518).network.network.pos_embed, table)
    smaller = F.interpolate(table.reshape(1, 37, 37, 384).permute(0, 3, 1, 2), size=(3, 3), mode="bicubic", antialias=True)
    torch.testing.assert_close(network("dinov2_vits14_reg", 42).network.network.pos_embed, smaller.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_built_on_the_meta_device_has_the_weights_of_the_file(name, random_weights):
    with torch.device("meta"):
        inner = network(name, 56).network
    tensors = [*inner.parameters(), *inner.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
    left_out = (1370 - 16 + 1) * 384 if name.startswith("dino") else 0  # 16 of its positions are left, and it hides no patches
    assert sum(parameter.numel() for parameter in inner.parameters()) == PARAMETERS[name] - left_out


def test_gradients_reach_the_images(random_weights):
    pixels = images().requires_grad_()
    network("dinov2_vits14_reg", 28)(pixels).square().sum().backward()
    assert (pixels.grad.abs().amax((0, 2, 3)) > 0).all()


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        (
            "dinov2_vits14_reg",
            500,
            "the_key=500: expected a multiple of 14, .*; nearest: 490 and 504; change `the_key`",
        ),
        ("dinov2_vits14_reg", 13, "the_key=13: expected a multiple of 14, .*; nearest: 14; change `the_key`"),
        ("vgg16", 31, "the_key=31: vgg16 needs at least 32 pixels per side; change `the_key`"),
        ("vgg17", 224, "'vgg17' is unknown; expected one of dinov2_vits14_reg, resnet50_a1, vgg16"),
    ],
)
def test_a_size_or_name_that_does_not_fit_is_refused_before_a_file_is_looked_for(name, size, message, tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match=message):
        network(name, size)


def test_an_absent_file_is_named_with_what_does_without(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeightsError, match=r"fetch dinov2_vits14_reg`.*something=else does without it"):
        network("dinov2_vits14_reg", 28)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("damage", ["another network", "a tensor less", "a tensor more", "a wrong shape", "cut short", "a list"])
def test_a_file_of_something_else_is_refused_in_one_line(name, damage, weights_files, tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    path = tmp_path / FILES[name].filename
    content = (weights_files / FILES["alexnet" if damage == "another network" else name].filename).read_bytes()
    path.write_bytes(content[:-1000] if damage == "cut short" else content)
    bias = {"dinov2_vits14_reg": "blocks.3.mlp.fc1.bias", "resnet50_a1": "fc.bias", "vgg16": "features.5.bias"}[name]
    if damage in ("a tensor less", "a tensor more", "a wrong shape", "a list"):
        tensors = torch.load(path, weights_only=True)
        changed = {"a tensor more": {"extra": torch.zeros(1)}, "a wrong shape": {bias: torch.zeros(1)}}.get(damage, {})
        damaged = {key: tensor for key, tensor in (tensors | changed).items() if damage != "a tensor less" or key != bias}
        torch.save([*damaged.values()] if damage == "a list" else damaged, path)
    with pytest.raises(ValueError, match=f"^{path} cannot be read as the weights of {name} ") as caught:
        network(name, 56)
    assert "\n" not in str(caught.value)
