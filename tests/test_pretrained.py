"""Configurations of models, and exports: what they may name, and what is restored from them."""

import copy
import json
import sys

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from experiments.config.compose import CONF, compose
from experiments.config.files import read_yaml
from tokenizer import ConvDecoder, ConvEncoder, GroupedSphericalQuantizer, ImageTokenizer, VectorQuantizer, pretrained
from tokenizer.interfaces import Configurable, Quantizer, TokenSpec

SPEC = {"_target_": "tokenizer.interfaces.TokenSpec", "codebook_size": 4, "groups": 1, "num_tokens": 4, "grid": [2, 2]}
FULL_SPEC = {**SPEC, "kind": "raster", "num_classes": 3, "kept": []}


def stems(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def by_hand() -> ImageTokenizer:
    torch.manual_seed(0)
    encoder = ConvEncoder(4, 8, [1, 2], layers=[1, 0, 1], mid_attention=False, norm_groups=4)
    decoder = ConvDecoder(
        latent_dim=4, width=8, multipliers=[1, 2], layers=1, adaptive_norm=True, depth_to_space=False, mid_attention=False, norm_groups=4
    )
    return ImageTokenizer(encoder, GroupedSphericalQuantizer(4, groups=2, codebook_size=16), decoder)


class WithNetwork(Quantizer):
    """Quantizer of which a network is an argument."""

    def __init__(self, latent_dim: int, network: nn.Module) -> None:
        super().__init__()
        self.latent_dim, self.network = latent_dim, network

    forward = indices_to_latents = reset_parameters = lambda self: None


class WithParts(Configurable):
    def __init__(self, parts: list[Configurable], by_name: dict[str, Configurable], sizes: tuple[int, ...]) -> None:
        super().__init__()


class WithoutConstructor(Configurable):
    pass


class Outer(Configurable):
    """Its argument is an attribute of the same name, which may be replaced later."""

    def __init__(self, inner: Configurable) -> None:
        super().__init__()
        self.inner = inner


@pytest.mark.parametrize(
    "words", [*(f"quantizer={name}" for name in stems("quantizer")), *(f"backbone={name}" for name in stems("backbone"))]
)
def test_a_tokenizer_describes_itself_as_the_configuration_that_built_it(words):
    config = compose("train", [words]).config["task"]["tokenizer"]
    with torch.device("meta"):
        model = pretrained.build(config)
    assert json.dumps(model.config()) == json.dumps(config)


@pytest.mark.parametrize("head", stems("head"))
@pytest.mark.parametrize("generator", stems("generator"))
def test_a_generator_describes_itself_as_the_configuration_that_built_it(generator, head):
    trees = {name: read_yaml(CONF / name / f"{stem}.yaml") for name, stem in (("generator", generator), ("head", head))}
    size = read_yaml(CONF / "transformer" / "mini_s.yaml")
    config = OmegaConf.to_container(OmegaConf.create({"tokens": FULL_SPEC, "generator_size": size, **trees}), resolve=True)["generator"]
    with torch.device("meta"):
        model = pretrained.build(config)
    assert json.dumps(model.config()) == json.dumps(config)


def test_only_arguments_that_were_passed_are_described_by_name():
    assert GroupedSphericalQuantizer(4, 2, codebook_size=16).config() == {
        "_target_": "tokenizer.quantizers.gsq.GroupedSphericalQuantizer", "latent_dim": 4, "groups": 2, "codebook_size": 16,
    }  # fmt: skip
    # Its constructor calls the one of its base class with different arguments.
    assert VectorQuantizer(4, 16).config() == {"_target_": "tokenizer.quantizers.vq.VectorQuantizer", "latent_dim": 4, "codebook_size": 16}


def test_a_class_without_a_constructor_is_described_by_its_name_alone():
    assert WithoutConstructor().config() == {"_target_": f"{__name__}.WithoutConstructor"}


def test_a_list_that_changes_later_is_described_as_it_was():
    multipliers = [1, 2]
    encoder = ConvEncoder(4, 8, multipliers, 1, False, norm_groups=4)
    multipliers.append(3)
    assert encoder.config()["multipliers"] == [1, 2]


def test_parts_in_lists_and_dicts_are_described():
    part = VectorQuantizer(2, 4)
    config = WithParts([part], {"a": part}, (1, 2)).config()
    assert config == {"_target_": f"{__name__}.WithParts", "parts": [part.config()], "by_name": {"a": part.config()}, "sizes": [1, 2]}


def test_a_part_that_was_replaced_is_described_as_it_is_now():
    model = Outer(VectorQuantizer(2, 4))
    model.inner = VectorQuantizer(2, 8)
    assert model.config()["inner"]["codebook_size"] == 8
    assert copy.deepcopy(model).config() == model.config()


def test_a_tokenizer_written_by_hand_is_saved_and_loaded(tmp_path):
    model = by_hand().eval()
    model.save_pretrained(tmp_path / "export", trained_with={"image_size": 16})
    loaded = ImageTokenizer.from_pretrained(tmp_path / "export")
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    assert torch.equal(loaded(images).decoder.reconstruction, model(images).decoder.reconstruction)
    assert loaded.config() == model.config()
    assert not loaded.training
    content = json.loads((tmp_path / "export" / "config.json").read_text())
    assert list(content) == ["sha256", "trained_with", "model", "model.safetensors sha256"]
    assert (content["trained_with"], content["model"]) == ({"image_size": 16}, model.config())
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == ["config.json", "model.safetensors"]


def test_an_argument_that_cannot_be_described_is_named_and_nothing_is_written(tmp_path):
    model = by_hand()
    model.quantizer = WithNetwork(4, nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"argument network of WithNetwork is a Linear, expected .* it cannot be saved"):
        model.save_pretrained(tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_a_class_that_cannot_be_imported_is_refused():
    class Local(VectorQuantizer):
        pass

    with pytest.raises(ValueError, match="Local cannot be imported from"):
        Local(2, 4).config()


def test_an_export_of_a_different_class_is_refused(tmp_path):
    class Other(pretrained.Pretrained):
        pass

    by_hand().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is an export of ImageTokenizer, expected Other"):
        Other.from_pretrained(tmp_path)


def test_a_spec_from_a_file_equals_one_made_by_hand():
    assert pretrained.build({**SPEC, "kind": "raster", "num_classes": 0}) == TokenSpec(4, 1, 4, (2, 2))


@pytest.mark.parametrize("target", ["tokenizer.interfaces.TokenLayout", "tokenizer.pretrained.save", "tokenizer.weights.sha256"])
def test_an_export_may_describe_tokens_and_modules_and_nothing_else(target, tmp_path):
    model = {"_target_": "tokenizer.generators.ar.AutoregressiveGenerator", "tokens": SPEC, "head": {"_target_": target}}
    (tmp_path / "config.json").write_text(json.dumps({"trained_with": {}, "model": model}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=f"_target_ {target} is no module of a network: it is not built"):
        pretrained.load(tmp_path)


def test_a_part_of_another_package_is_loaded_only_if_the_package_is_allowed(tmp_path, monkeypatch):
    package = tmp_path / "their_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "quantizer.py").write_text(
        "from tokenizer import VectorQuantizer\n\n\nclass TheirQuantizer(VectorQuantizer):\n    pass\n\n\ndef function():\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from their_package.quantizer import TheirQuantizer

    model = by_hand()
    model.quantizer = TheirQuantizer(4, codebook_size=16)
    model.save_pretrained(tmp_path / "export")
    for name in [name for name in sys.modules if name.startswith("their_package")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ValueError, match=r"_target_ their_package.quantizer.TheirQuantizer is outside tokenizer: it is not built"):
        ImageTokenizer.from_pretrained(tmp_path / "export")
    assert "their_package" not in sys.modules
    loaded = ImageTokenizer.from_pretrained(tmp_path / "export", packages=("tokenizer", "their_package"))
    assert loaded.config() == model.config()
    config = tmp_path / "export" / "config.json"
    content = json.loads(config.read_text().replace("TheirQuantizer", "function"))
    del content["sha256"]
    config.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="is no module of a network"):
        ImageTokenizer.from_pretrained(tmp_path / "export", packages=("tokenizer", "their_package"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_of_another_float_type_is_loaded_in_it_and_gives_the_same_images(dtype, tmp_path):
    model, images = by_hand().to(dtype).eval(), torch.rand(2, 3, 8, 8, dtype=dtype) * 2 - 1
    model.save_pretrained(tmp_path)
    loaded = ImageTokenizer.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
    assert torch.equal(loaded(images).decoder.reconstruction, model(images).decoder.reconstruction)
