"""Exports: what they may name, and what they give back."""

import json

import pytest

from tokenizer import pretrained
from tokenizer.interfaces import TokenSpec

SPEC = {"_target_": "tokenizer.interfaces.TokenSpec", "codebook_size": 4, "groups": 1, "num_tokens": 4, "grid": [2, 2]}


def test_a_spec_out_of_a_file_equals_one_made_by_hand():
    assert pretrained.build({**SPEC, "kind": "raster", "num_classes": 0}) == TokenSpec(4, 1, 4, (2, 2))


@pytest.mark.parametrize("target", ["tokenizer.interfaces.TokenLayout", "tokenizer.pretrained.save", "tokenizer.weights.sha256"])
def test_an_export_may_describe_tokens_and_modules_and_nothing_else(target, tmp_path):
    model = {"_target_": "tokenizer.generators.ar.AutoregressiveGenerator", "tokens": SPEC, "head": {"_target_": target}}
    (tmp_path / "config.json").write_text(json.dumps({"trained_with": {}, "model": model}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=f"_target_ {target} is no module of a network: it is not built"):
        pretrained.load(tmp_path)
