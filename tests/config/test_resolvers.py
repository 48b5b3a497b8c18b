"""Relations between keys, resolved as YAML files state them."""

import json

import pytest
from omegaconf import OmegaConf

from experiments.config.resolvers import register
from tests.tokens.made_caches import write_cache
from tokenizer.weights import FILES, MissingWeightsError


def resolve(expression: str, **keys):
    register()
    return OmegaConf.to_container(OmegaConf.create({**keys, "result": "${" + expression + "}"}), resolve=True)["result"]


def reason(expression: str, **keys) -> str:
    with pytest.raises(Exception) as caught:
        resolve(expression, **keys)
    return str(caught.value)


@pytest.mark.parametrize(
    ("expression", "keys", "expected"),
    [
        ("divisor_of:groups,latent_dim", {"groups": 16, "latent_dim": 64}, 16),
        ("divisor_of:part.groups,latent_dim", {"part": {"groups": 4}, "latent_dim": 8}, 4),
        ("length:levels", {"levels": [8, 5, 5]}, 3),
        ("levels_of:levels,image_size", {"levels": [1, 2, 2], "image_size": 20}, [1, 2, 2]),
        ("levels_of:levels,image_size", {"levels": [1], "image_size": 17}, [1]),
        ("grid_of:levels,image_size", {"levels": [1, 2, 2], "image_size": 20}, [5, 5]),
    ],
)
def test_a_relation_that_holds_gives_the_value(expression, keys, expected):
    assert resolve(expression, **keys) == expected


@pytest.mark.parametrize(
    ("expression", "keys", "text"),
    [
        (
            "divisor_of:groups,latent_dim",
            {"groups": 7, "latent_dim": 64},
            "groups=7: does not divide latent_dim=64; nearest: `4 or 8`; change `groups` or",
        ),
        ("divisor_of:groups,latent_dim", {"groups": 96, "latent_dim": 64}, "nearest: `64`"),
        ("divisor_of:groups,latent_dim", {"groups": 0, "latent_dim": 64}, "groups=0: expected a whole number of at least 1"),
        ("divisor_of:groups,latent_dim", {"groups": 4, "latent_dim": "x"}, "latent_dim=x: expected a whole number"),
        ("divisor_of:groups,width", {"groups": 4}, "width: a relation of this configuration names this key"),
        ("length:levels", {"levels": 8}, "levels=8: expected a list"),
        ("levels_of:levels,image_size", {"levels": [], "image_size": 16}, "levels=[]: expected a list with a number for each of 1 to 16"),
        ("levels_of:levels,image_size", {"levels": 3, "image_size": 16}, "levels=3: expected a list"),
        ("levels_of:levels,image_size", {"levels": [1] * 17, "image_size": 16}, "expected a list with a number for each of 1 to 16"),
        ("levels_of:levels,image_size", {"levels": [1, 1, 1], "image_size": 18}, "image_size=18: is no multiple of 4"),
        ("levels_of:levels,image_size", {"levels": [1, 1, 1], "image_size": 18}, "nearest: `16 or 20`"),
        ("levels_of:levels,image_size", {"levels": [1, 1, 1], "image_size": 0}, "image_size=0: expected a whole number of at least 1"),
        ("trained_with:root,image_size", {"root": "/nowhere/at/all"}, "root=/nowhere/at/all: expected a file or folder that exists"),
    ],
)
def test_a_relation_that_fails_names_value_expectation_and_key(expression, keys, text):
    assert text in reason(expression, **keys)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("config.json", "not: [json", "its config.json cannot be read"),
        ("config.json", "[]", "its config.json expected keys and values"),
        ("config.json", "{}", "does not record `image_size`"),
        ("config.yaml", "", "its config.yaml expected keys and values"),
    ],
)
def test_a_file_that_is_no_configuration_is_named_with_the_key(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    text = reason("trained_with:model,image_size", model=str(tmp_path))
    assert f"model={tmp_path}: {expected}" in text
    assert "change `model`" in text


def described(tmp_path, record, **changes):
    """A folder that records its tokens, as a run or an export of an earlier version does."""
    tokens = {"codebook_size": 64, "groups": 2, "num_tokens": 16, "grid": [4, 4], "kind": "raster", "num_classes": 0, **changes}
    folder = tmp_path / record
    folder.mkdir()
    if record == "run":
        (folder / "config.yaml").write_text("image_size: 32\n")
        (folder / "environment.json").write_text(json.dumps({"tokens": tokens}))
    else:
        (folder / "config.json").write_text(json.dumps({"trained_with": {"image_size": 32, "tokens": tokens}}))
    return str(folder)


FIELDS = {
    "codebook_size": 16, "groups": 2, "num_tokens": 4, "grid": [2, 2], "kind": "raster", "num_classes": 3, "image_size": 16, "kept": [],
}  # fmt: skip


@pytest.mark.parametrize(("field", "expected"), FIELDS.items())
def test_tokens_of_a_cache_are_those_of_its_header(tmp_path, field, expected):
    write_cache(tmp_path / "cache")
    assert resolve(f"tokens_of:{field}", data={"file": str(tmp_path / "cache")}) == expected


@pytest.mark.parametrize("kind", ["run", "export"])
def test_tokens_made_online_are_the_tokenizers_and_classes_the_images(tmp_path, kind):
    data = {"tokenizer": described(tmp_path, kind), "num_classes": 10}
    found = [resolve(f"tokens_of:{field}", data=data) for field in ("codebook_size", "grid", "num_classes", "image_size")]
    assert found == [64, [4, 4], 10, 32]


@pytest.mark.parametrize(
    ("kind", "num_tokens", "expected"),
    [("raster", None, [16, []]), ("raster", 16, [16, []]), ("merged", None, [9, [9]]), ("merged", 4, [4, [4]])],
)
def test_the_number_of_tokens_made_online_is_that_of_the_data_or_of_the_tokenizer(tmp_path, kind, num_tokens, expected):
    merged = {"kind": "merged", "num_tokens": 9, "kept": [9]} if kind == "merged" else {}
    data = {"tokenizer": described(tmp_path, "export", **merged), "num_tokens": num_tokens}
    assert [resolve(f"tokens_of:{field}", data=data) for field in ("num_tokens", "kept")] == expected


def test_tokens_that_cannot_be_known_are_one_clear_message(tmp_path):
    online = {"tokenizer": described(tmp_path, "run"), "num_classes": None}
    assert "data.num_classes=null: expected a whole number" in reason("tokens_of:num_classes", data=online)
    assert "data.num_tokens=0: expected a whole number" in reason("tokens_of:num_tokens", data={**online, "num_tokens": 0})
    assert "data=Photos: it has no tokens; expected data=indices" in reason("tokens_of:groups", data={"_target_": "a.Photos"})
    assert "data.file=/nowhere: expected a token cache" in reason("tokens_of:groups", data={"file": "/nowhere"})
    assert "data.tokenizer=/nowhere: expected a file or folder that exists" in reason("tokens_of:groups", data={"tokenizer": "/nowhere"})
    assert "it has no config.yaml and no config.json" in reason("tokens_of:groups", data={"tokenizer": str(tmp_path)})
    (tmp_path / "run" / "environment.json").write_text("{}")
    assert "does not record `tokens`" in reason("tokens_of:groups", data=online)


def test_a_setting_comes_from_a_cache_where_no_model_is_named(tmp_path):
    write_cache(tmp_path / "cache")
    relation = "trained_with:tokenizer,image_size,inspect"
    assert resolve(relation, tokenizer=None, inspect=str(tmp_path / "cache")) == 16
    assert resolve(relation, tokenizer=described(tmp_path, "run"), inspect=str(tmp_path / "cache")) == 32
    assert "tokenizer=null: expected a run folder or an exported" in reason(relation, tokenizer=None, inspect=None)


def test_weights_are_required_unless_the_option_without_them_is_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    expression = 'require_weights:vgg16,"loss.perceptual=0"'
    assert "loss.perceptual=0 does without it" in reason(expression, loss={"perceptual": 1.0})
    assert resolve(expression, loss={"perceptual": 0.0}) == "vgg16"
    (tmp_path / FILES["vgg16"].filename).touch()
    assert resolve(expression, loss={"perceptual": 1.0}) == "vgg16"


def test_absent_weights_keep_their_class_within_the_wrapping(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path))
    with pytest.raises(Exception) as caught:
        resolve("require_weights:vgg16")
    inner = caught.value
    while inner and not isinstance(inner, MissingWeightsError):
        inner = inner.__cause__ or inner.__context__
    assert inner is not None
