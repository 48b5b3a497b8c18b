"""Arguments of constructors are checked by their annotations, whatever `typing` has; numbers are finite."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Protocol, TypeAlias

import pytest

from experiments.config.arguments import accepts, check_arguments, check_tree, describe
from experiments.config.errors import ConfigError

Norm: TypeAlias = Literal["none", "l2"]


class Part:
    def __init__(self, width: int, norm: Norm = "l2", rate: float = 1.0, inner: Any = None) -> None: ...


class Shape(Protocol):
    def area(self) -> float: ...


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [0, -3], [1.0, True, "1", None]),
        (float, [0.5, 2], [True, "0.5", None, float("nan"), float("inf")]),
        (bool, [True], [1, "true"]),
        (str, ["a", ""], [1, None, ["a"]]),
        (int | None, [1, None], ["1"]),
        (Optional[str], ["a", None], [1]),  # noqa: UP045
        (Norm, ["none", "l2"], ["l3", None]),
        (Annotated[int, "at least 1"], [1], ["1"]),
        (tuple[int, int], [[1, 2]], [[1], [1, 2, 3], [1, "2"], 1]),
        (tuple[float, ...], [[], [1, 0.5]], [["a"], 1.0]),
        (Sequence[str], [["a"], []], ["a", [1]]),
        (Mapping[str, float], [{"a": 1, "b": 0.5}, {}], [{"a": "1"}, [1], {"a": float("nan")}]),
        (Path, ["runs"], [3]),
        (Part | None, [None], [3, "gsq"]),
        (Shape, [], [3]),
        (Callable[..., Any] | None, [None], []),
        (int | Literal["auto"], [2, "auto"], ["all", 1.5]),
        (list[tuple[int, int]], [[[1, 2]]], [[1], [["a"]], [[1]]]),
        (Any, [1, "a", None], []),
    ],
)
def test_values_are_accepted_as_the_annotation_states(annotation, good, bad):
    assert [value for value in good if not accepts(annotation, value)] == []
    assert [value for value in bad if accepts(annotation, value)] == []


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "a whole number (int)"),
        (int | None, "a whole number (int) or null"),
        (Norm, "one of none, l2"),
        (tuple[int, int], "a list of 2, each a whole number (int)"),
        (tuple[float, ...], "a list, each a finite number (float)"),
        (dict[str, float], "a mapping to a finite number (float)"),
        (int | Literal["auto"], "a whole number (int) or one of auto"),
        (Annotated[int, "at least 1"], "a whole number (int)"),
        (Part | None, "a Part or null"),
    ],
)
def test_an_expectation_is_in_words(annotation, text):
    assert describe(annotation) == text


def test_the_first_wrong_argument_is_named_with_its_path():
    with pytest.raises(ConfigError) as caught:
        check_arguments(Part, {"width": 3, "norm": "noen"}, "task.part")
    assert (caught.value.key, caught.value.value, caught.value.nearest) == ("task.part.norm", "noen", "none")
    check_arguments(Part, {"width": 3, "inner": {"_target_": "tokenizer.x"}, "unknown": 1}, "task.part")
    check_arguments(Part, {"width": 3, "inner": Part(3)}, "task.part")


def test_every_part_of_a_tree_is_checked():
    good = {"parts": [{"_target_": "tokenizer.quantizers.lfq.LookupFreeQuantizer", "latent_dim": 4, "spherical": False}]}
    check_tree(good, "task")
    good["parts"][0]["latent_dim"] = "wide"
    with pytest.raises(ConfigError) as caught:
        check_tree(good, "task")
    assert (caught.value.key, caught.value.value) == ("task.parts.0.latent_dim", "wide")


def test_a_whole_number_beyond_64_bits_is_refused_wherever_it_is():
    for value in (2**63, [1, -(2**63)], {"a": [2**70]}):
        with pytest.raises(ConfigError) as caught:
            check_arguments(Part, {"width": 1, "inner": value}, "part")
        assert caught.value.key == "part.inner"
    check_arguments(Part, {"width": 2**63 - 1, "inner": [1.0e30]}, "part")
