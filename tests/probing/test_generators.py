"""The training of a probe's generator: accepted by experiments.train, and planned before there are tokens."""

import dataclasses

import pytest
import torch

from experiments.config.compose import CONF, compose
from experiments.config.errors import ConfigError
from experiments.config.files import ConfigFolders, read_yaml
from experiments.probing.generators import check_groups, plan_generator, training_overrides
from experiments.runs.build import build
from tests.tokens.made_caches import write_cache
from tokenizer.interfaces import TokenSpec

PROTOCOLS = sorted(path.stem for path in (CONF / "protocol").glob("*.yaml"))
TOKENS = TokenSpec(16, 2, 6, (2, 3), "raster", 3)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_training_of_a_protocol_is_one_that_experiments_train_accepts(protocol, tmp_path):
    """The folder's name has signs that mean something to Hydra."""
    folder = tmp_path / "it's (a) run,=1"
    write_cache(folder / "tokens")
    settings = compose("probe", ["tokenizer=nothing", "image_size=16", f"protocol={protocol}", "seed=5"]).config
    composition = compose("train", training_overrides(settings, "auto", str(folder / "tokens"), str(folder)))
    config, training = composition.config, settings["training"]
    assert {group: composition.choices[group] for group in training["groups"]} == training["groups"]
    assert all(config[key] == value for key, value in training["settings"].items() if not isinstance(value, dict))
    assert all(config["generator"][key] == value for key, value in training["settings"].get("generator", {}).items())
    size = read_yaml(CONF / "transformer" / f"{training['groups']['transformer@generator_size']}.yaml")
    assert {key: config["task"]["generator"][key] for key in ("width", "depth", "attention_heads")} == size
    assert (config["seed"], config["tokenizer"], config["data"]["file"]) == (5, str(folder), str(folder / "tokens"))


@pytest.mark.parametrize(("mount", "choice", "near"), [("transformer@generator_size", "xxxl", "xxl"), ("generator", "art", "ar")])
def test_a_choice_that_a_group_of_the_training_does_not_have_is_refused(mount, choice, near):
    with pytest.raises(ConfigError) as caught:
        check_groups({"head": "depth", mount: choice}, ConfigFolders(CONF))
    assert (caught.value.key, caught.value.value, caught.value.nearest) == (f"training.groups.{mount}", choice, near)
    check_groups({"generator": "ar", "transformer@generator_size": "xxl"}, ConfigFolders(CONF))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_generator_is_planned_for_tokens_that_do_not_exist_and_has_no_memory(protocol):
    probe = compose("probe", ["tokenizer=nothing", "image_size=16", f"protocol={protocol}"])
    generator, config = plan_generator(probe, TOKENS, 16, None)
    assert generator.tokens == TOKENS
    assert {parameter.device.type for parameter in generator.parameters()} == {"meta"}
    built = build(config["task"]["generator"]) if protocol != "gigatok" else generator
    assert sum(map(torch.numel, built.parameters())) == sum(map(torch.numel, generator.parameters()))
    assert config["updates"] == probe.config["training"]["settings"]["updates"]


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("training.settings.generator.dropout=2", "generator.dropout"),
        ("training.settings.generator.dropout=much", "generator.dropout"),
        ("training.groups.generator=arr", "generator"),
        ("training.settings.batch_size=0", "batch_size"),
    ],
)
def test_a_wrong_setting_of_the_training_is_named_before_there_are_tokens(override, key):
    probe = compose("probe", ["tokenizer=nothing", "image_size=16", override])
    with pytest.raises(ConfigError) as caught:
        plan_generator(probe, TOKENS, 16, None)
    assert key in (caught.value.key, caught.value.place)


def test_devices_that_cannot_share_the_batch_of_the_training_are_named():
    probe = compose("probe", ["tokenizer=nothing", "image_size=16", "trainer.devices=3", "trainer.accelerator=cpu"])
    with pytest.raises(ConfigError) as caught:
        plan_generator(probe, dataclasses.replace(TOKENS, groups=1), 16, None)
    assert (caught.value.key, caught.value.value) == ("batch_size", 64)
