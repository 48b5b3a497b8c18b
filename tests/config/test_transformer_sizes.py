"""The sizes of conf/transformer: published ones are as printed, and a wrong name of one is an error with the nearest."""

import pytest

from experiments.config.compose import CONF, compose
from experiments.config.errors import ConfigError
from experiments.config.files import ConfigFolders, read_yaml
from experiments.config.help_text import help_text
from tests.tokens.made_caches import write_cache

SIZES = sorted(path.stem for path in (CONF / "transformer").glob("*.yaml"))
PUBLISHED = {"s": (512, 6, 8), "b": (768, 12, 12), "l": (1024, 24, 16), "xl": (1280, 36, 20), "xxl": (1536, 48, 24)}
PROBE = ["tokenizer=nothing", "image_size=16"]


def refused(verb: str, *words: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        compose(verb, list(words))
    return caught.value


@pytest.mark.parametrize("name", SIZES)
def test_the_width_of_a_size_divides_into_its_attention_heads(name):
    size = read_yaml(CONF / "transformer" / f"{name}.yaml")
    assert {key: type(value) for key, value in size.items()} == {"width": int, "depth": int, "attention_heads": int}
    assert min(size.values()) > 0
    assert size["width"] % size["attention_heads"] == 0


@pytest.mark.parametrize(("name", "printed"), PUBLISHED.items())
def test_a_published_size_is_as_printed(name, printed):
    assert tuple(read_yaml(CONF / "transformer" / f"{name}.yaml").values()) == printed


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("head", ["parallel", "depth"])
def test_generator_and_head_have_the_chosen_size(name, head, tmp_path):
    write_cache(tmp_path / "tokens")
    words = ["task=generator", f"head={head}", f"transformer@generator_size={name}", f"data.file={tmp_path / 'tokens'}"]
    generator = compose("train", words).config["task"]["generator"]
    size = read_yaml(CONF / "transformer" / f"{name}.yaml")
    assert {key: generator[key] for key in size} == size
    assert generator["head"]["width"] == size["width"]


@pytest.mark.parametrize(
    ("key", "value", "nearest"),
    [
        ("transformer@generator_size", "xxxl", "xxl"),
        ("transformer@generator_sise", "xl", "transformer@generator_size"),
        ("transformer", "xl", "transformer@generator_size"),
        ("generator_size.widths", 64, "generator_size.width"),
        ("generator", "ar_b", "ar"),
    ],
)
def test_a_wrong_size_is_named_with_the_nearest(key, value, nearest):
    error = refused("train", "task=generator", f"{key}={value}")
    assert (error.key, error.value, error.nearest) == (key, value, nearest)


def test_a_size_that_is_chosen_without_its_group_is_answered_by_the_group():
    error = refused("train", "task=generator", "data.file=nothing", "generator_size=xl")
    assert (error.key, error.value) == ("generator_size", "xl")
    assert "`transformer@generator_size=...`" in error.advice
    assert refused("train", "transformer@generator_size=xl").advice == "task=generator has it"


def test_the_size_of_a_protocol_is_changed_as_an_entry_of_its_groups():
    groups = compose("probe", [*PROBE, "training.groups={transformer@generator_size:mini_s}"]).config["training"]["groups"]
    assert (groups["transformer@generator_size"], groups["generator"]) == ("mini_s", "ar")
    key = "training.groups.transformer@generator_size"
    error = refused("probe", *PROBE, f"{key}=mini_s")
    assert (error.key, error.value, error.advice) == (key, "mini_s", "write 'training.groups={transformer@generator_size:mini_s}'")
    for word in ("training.groups={transformer@generator_sise:mini_s}", "training.groups.transformer@generator_sise=mini_s"):
        error = refused("probe", *PROBE, word)
        assert (error.key, error.nearest) == ("training.groups.transformer@generator_sise", key)


def test_help_lists_the_sizes_of_a_generator():
    lines = [line.strip() for line in help_text("train", "", ConfigFolders(CONF), ("task=generator",)).splitlines()]
    (line,) = [line for line in lines if line.startswith("transformer@generator_size=")]
    assert sorted(line.partition("=")[2].replace("*", "").split(" | ")) == SIZES
    assert line.count("*") == 1
    assert "transformer@" not in help_text("train", "", ConfigFolders(CONF))
