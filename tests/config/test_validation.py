"""Pydantic's errors become ours: the dotted key, its value, what is valid and the nearest known name."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from experiments.config.errors import ConfigError
from experiments.config.validation import StrictModel, config_error


class Part(StrictModel):
    rate: Annotated[float, Field(gt=0)] = 1.0


class Model(StrictModel):
    count: Annotated[int, Field(ge=1)]
    kind: Literal["local", "slurm"] = "local"
    on: bool = False
    part: Part = Part()

    @model_validator(mode="after")
    def _even_on_slurm(self) -> "Model":
        if self.kind == "slurm" and self.count % 2:
            raise ConfigError("count", self.count, expected="an even number")
        return self


def reason(**keys: Any) -> ConfigError:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate(keys)
    return config_error(caught.value, Model, place="file.yaml")


@pytest.mark.parametrize(
    ("keys", "key", "value", "expected", "nearest"),
    [
        ({"count": 0}, "count", 0, "a number of at least 1", ""),
        ({"count": True}, "count", True, "a whole number", ""),
        ({"count": 1.5}, "count", 1.5, "a whole number", ""),
        ({"count": 2, "kind": "slrum"}, "kind", "slrum", "one of local, slurm", "slurm"),
        ({"count": 2, "on": 1}, "on", 1, "true or false", ""),
        ({"count": 2, "part": {"rate": float("inf")}}, "part.rate", float("inf"), "a finite number", ""),
        ({"count": 1, "kind": "slurm"}, "count", 1, "an even number", ""),
    ],
)
def test_a_wrong_value_has_its_key_and_what_is_valid(keys, key, value, expected, nearest):
    error = reason(**keys)
    assert (error.key, error.value, error.expected, error.nearest, error.place) == (key, value, expected, nearest, "file.yaml")


def test_an_unknown_key_names_the_nearest_even_where_another_is_missing():
    error = reason(cuont=3)
    assert (error.key, error.nearest) == ("cuont", "count")
    nested = reason(count=1, part={"rte": 1.0})
    assert (nested.key, nested.nearest) == ("part.rte", "rate")


def test_a_missing_key_is_named():
    assert (reason().key, reason().reason) == ("count", "is missing")
