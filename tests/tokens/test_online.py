"""Images for online tokens are those of the wrapped source; the number of classes is configured in advance."""

import pytest
import torch

from experiments import tokenize
from experiments.config import packages
from experiments.config.arguments import check_tree
from experiments.config.compose import compose
from experiments.config.errors import ConfigError, DataError
from experiments.data.digits import Digits
from experiments.data.files import check_data
from experiments.data.loading import ImageData
from experiments.runs.build import build
from experiments.tokens.cached import CachedTokens
from experiments.tokens.online import OnlineTokens
from experiments.training.loop import make_task
from experiments.training.preparation import check_sizes
from tests.merging_tokenizer import write_merging_tokenizer
from tests.training.made_models import GENERATOR
from tokenizer.interfaces import TokenSpec


def test_batches_are_those_of_the_wrapped_source():
    source = OnlineTokens(Digits(8), "runs/a", "ema", num_classes=10)
    left, right = (next(iter(ImageData(images, batch_size=5, seed=3).train_dataloader())) for images in (source, source.images))
    assert torch.equal(left.images, right.images)
    assert left.keys == right.keys
    assert (source.classes, source.image_size, source.fingerprint()) == (Digits(8).classes, 8, Digits(8).fingerprint())


@pytest.mark.parametrize("number", [0, 9, 1000])
def test_another_number_of_classes_is_refused_with_the_right_one(number):
    with pytest.raises(ConfigError, match=r"set data\.num_classes=10") as caught:
        OnlineTokens(Digits(8), "runs/a", "ema", num_classes=number)
    assert (caught.value.key, caught.value.value) == ("data.num_classes", number)


def test_the_number_of_classes_must_be_given():
    with pytest.raises(ConfigError) as caught:
        check_tree(compose("train", ["data=online", "data.tokenizer=runs/a"]).config)
    assert (caught.value.key, caught.value.value) == ("data.num_classes", None)


def test_the_images_are_configured_like_any_data():
    overrides = ["data=online", "data.tokenizer=runs/a", "data@data.images=image_folder", "data.images.root=/nowhere", "data.num_classes=2"]
    data = compose("train", overrides).config["data"]
    assert data["images"]["_target_"] == "experiments.data.image_folder.ImageFolder"
    with pytest.raises(DataError) as caught:
        check_data(data)
    assert (caught.value.path, caught.value.key) == ("/nowhere", "data.images.root")


@pytest.fixture
def merging(tmp_path, monkeypatch):
    """Overrides of a generator that trains on images whose tokens are merged."""
    monkeypatch.setattr(packages, "_plugins", {"tests": None})
    write_merging_tokenizer(tmp_path / "merging")
    online = ["data=online", "data@data.images=digits", f"data.tokenizer={tmp_path / 'merging'}", "data.num_classes=10"]
    return [*GENERATOR, *online]


@pytest.mark.parametrize(("words", "kept"), [([], 8), (["data.num_tokens=4"], 4)])
def test_images_are_encoded_with_the_number_of_tokens_of_the_data_as_in_a_cache(merging, words, kept, tmp_path):
    config = compose("train", [*merging, *words]).config
    source = build(config["data"])
    check_sizes(config, source)
    assert source.tokens == TokenSpec(16, 2, kept, (4, 4), "merged", 10, (kept,))
    task = make_task(config)
    task.encode_with(source.encoder, source.num_tokens)
    batch = task.as_tokens(next(iter(ImageData(source, 50, seed=0).val_dataloader())))
    fixed = [f"tokenizer={tmp_path / 'merging'}", "data=digits", "image_size=32", "workers=0", f"output={tmp_path / 'cache'}"]
    assert tokenize.run(compose("tokenize", [*fixed, *(word.removeprefix("data.") for word in words)])) == 0
    cached = next(iter(ImageData(CachedTokens(str(tmp_path / "cache"), 0), 50, seed=0).val_dataloader()))
    assert batch.indices.shape == (50, kept, 2)
    for ours, theirs in zip(*((each.indices, each.layout.assignment, each.layout.token_sizes) for each in (batch, cached)), strict=True):
        assert torch.equal(ours, theirs)


def test_a_number_of_tokens_that_cannot_be_kept_is_refused_before_training(merging):
    config = compose("train", [*merging, "data.num_tokens=17"]).config
    with pytest.raises(ConfigError) as caught:
        check_sizes(config, build(config["data"]))
    assert (caught.value.key, caught.value.value) == ("data.num_tokens", 17)
