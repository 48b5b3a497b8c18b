"""The form of the one-line message, and fields that survive the way between processes."""

import pickle

import pytest

from experiments.config.errors import ConfigError, DataError, DiskFull, NonFinite


def test_a_message_has_the_place_the_value_what_is_valid_and_what_to_change():
    error = ConfigError("groups", 7, reason="does not divide", expected="a divisor", nearest="8", place="conf/a.yaml")
    assert str(error) == "conf/a.yaml: groups=7: does not divide; expected a divisor; nearest: `8`; change `groups`"
    assert str(ConfigError("grups", reason="unknown key", advice="--help lists the keys")) == "grups: unknown key; --help lists the keys"
    assert str(ConfigError("on", None)) == "on=null: change `on`"
    assert str(error.at("row 3")) == f"row 3, {error}"


@pytest.mark.parametrize(
    "error",
    [ConfigError("groups", 7, expected="8"), DataError("a.jpg", "damaged", "data.root"), DiskFull("a", "full"), NonFinite("loss", 3)],
)
def test_an_error_keeps_class_text_and_fields_when_it_is_pickled(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
