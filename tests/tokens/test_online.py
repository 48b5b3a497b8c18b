"""Images for online tokens are those of the wrapped source; the number of classes is configured in advance."""

import pytest
import torch

from experiments.config.arguments import check_tree
from experiments.config.compose import compose
from experiments.config.errors import ConfigError, DataError
from experiments.data.digits import Digits
from experiments.data.files import check_data
from experiments.data.loading import ImageData
from experiments.tokens.online import OnlineTokens


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
