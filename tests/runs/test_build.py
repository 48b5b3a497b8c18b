"""An argument that a constructor refuses is an error at the place of its part in the configuration."""

import pytest

from experiments.config.compose import compose
from experiments.config.errors import ConfigError, config_errors
from experiments.runs.build import build

CONV = {"_target_": "tokenizer.layers.conv.ScaledConv2d", "in_channels": 1, "out_channels": 1, "kernel_size": 1}


def test_the_place_is_that_of_the_innermost_part():
    task = compose("train", ["scale=smoke"]).config["task"]
    task["tokenizer"]["quantizer"]["codebook_size"] = 0
    with pytest.raises(ConfigError) as caught:
        build({"parts": [{"task": task["tokenizer"]}]}, "configuration")
    assert caught.value.key == "configuration.parts.0.task.quantizer.codebook_size"
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_target_or_argument_that_does_not_exist_has_a_place_too():
    for wrong in ({**CONV, "_target_": "os.system"}, {**CONV, "no_such_argument": 1}):
        with pytest.raises(ConfigError) as caught:
            build({"encoder": wrong}, "task")
        assert caught.value.place == "task.encoder"


def test_an_error_with_fields_passes_unchanged():
    error = ConfigError("data.root", "/nowhere")
    with pytest.raises(ConfigError) as caught, config_errors("data"):
        raise error
    assert caught.value is error


def test_plain_values_and_containers_are_passed_through():
    assert build({"a": [1, None, "text"], "b": {"c": 2.5}}) == {"a": [1, None, "text"], "b": {"c": 2.5}}
