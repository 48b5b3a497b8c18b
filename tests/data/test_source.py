"""Every image configuration builds a source that fulfills the contract."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from experiments.data.source import Draw, Example, ImageSource, fingerprint_of
from tokenizer.pretrained import build

CONF = Path(__file__).parents[2] / "conf/data"
TOKENS = ("indices", "online")  # for generators, tested separately


@pytest.fixture(params=sorted(path.stem for path in CONF.glob("*.yaml") if path.stem not in TOKENS))
def source(request, tmp_path):
    config = OmegaConf.create({"image_size": 16, "seed": 3, "data": OmegaConf.load(CONF / f"{request.param}.yaml")})
    if OmegaConf.is_missing(config.data, "root"):
        for number in range(3):
            Image.new("RGB", (20, 30), (number, 0, 0)).save(tmp_path / f"{number}.png")
        config.data.root = str(tmp_path)
    return build(OmegaConf.to_container(config.data, resolve=True), packages=("experiments",))


def test_every_source_fulfills_the_contract(source):
    assert isinstance(source, ImageSource)
    assert len(source.fingerprint()) == 12
    for example in (source.train[Draw(0, 0)], source.train[Draw(9, len(source.train) - 1)], source.val[0], source.val[len(source.val) - 1]):
        assert isinstance(example, Example)
        assert (example.image.shape, example.image.dtype) == ((3, 16, 16), torch.uint8)
        assert example.image.is_contiguous()
        assert example.key
        assert -1 <= example.label < len(source.classes or [])
    assert torch.equal(source.train[Draw(2, 1)].image, source.train[Draw(2, 1)].image)


def test_random_numbers_differ_by_seed_epoch_and_index():
    streams = [Draw(epoch, index).random(seed).random() for epoch in (0, 1) for index in (0, 1) for seed in (0, 1)]
    assert len(set(streams)) == 8


def test_fingerprints_differ_by_names_sizes_and_options():
    prints = [
        fingerprint_of([("a", 1)], {"x": 1}),
        fingerprint_of([("a", 2)], {"x": 1}),
        fingerprint_of([("b", 1)], {"x": 1}),
        fingerprint_of([("a", 1)], {"x": 2}),
        fingerprint_of([("a", 1), ("b", 1)], {"x": 1}),
    ]
    assert len(set(prints)) == 5
    assert fingerprint_of([("a", 1)], {"y": 2, "x": 1}) == fingerprint_of([("a", 1)], {"x": 1, "y": 2})
