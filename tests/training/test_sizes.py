"""Sizes beyond any use are refused in little time, before anything is allocated."""

import time
from typing import Any

import pytest

from experiments.config.compose import compose
from experiments.config.errors import ConfigError
from experiments.runs.build import build
from experiments.training.preparation import check_sizes


def refused(*words: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        check(compose("train", ["scale=smoke", *words]).config)
    return caught.value


def check(config: dict[str, Any]) -> None:
    check_sizes(config, build(config["data"]))


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("workers=100000", "workers"),
        ("image_size=100000", "image_size"),
        ("updates=10000000000", "updates"),
        ("batch_size=10000000000", "batch_size"),
    ],
)
def test_a_number_beyond_any_use_is_refused(word, key):
    assert refused(word).key == key


def test_the_number_of_parts_of_a_model_is_bounded():
    started = time.monotonic()
    error = refused("depth=100000")
    assert time.monotonic() - started < 20  # building them all takes minutes
    assert "more than 20,000 modules and tensors" in error.reason


@pytest.mark.parametrize("word", ["width=-1", "width=0", "layers=0", "layers=1000000000000"])
def test_a_discriminator_without_a_size_is_refused(word):
    error = refused(f"discriminator.{word}")
    assert f"{error.key}={error.value}" == f"task.discriminator.{word}"


def test_a_size_that_torch_cannot_count_is_refused():
    assert refused("discriminator.width=1000000000000").key == "task.discriminator"


def test_a_relation_of_sizes_is_refused_with_its_key():
    assert (refused("image_size=17").key, refused("backbone.encoder.multipliers=[]").key) == ("image_size", "backbone.encoder.multipliers")
