"""Every file of conf/ composes with the rest and states every key of what it builds; a key that nothing declares is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from experiments.config.compose import CONF, compose
from experiments.config.draft import MAIN_GROUPS
from experiments.config.errors import ConfigError
from experiments.config.files import read_yaml
from experiments.config.settings import SETTINGS
from experiments.config.signatures import signature
from experiments.runs.build import build
from experiments.runs.losses import weighted_losses
from tests.tokens.made_caches import TOKENS, write_cache

VERBS = sorted(path.stem for path in CONF.glob("*.yaml"))
CHOICES = sorted(
    (path.relative_to(CONF).parts[0], "/".join(path.relative_to(CONF).with_suffix("").parts[1:]))
    for path in CONF.glob("*/**/*.yaml")
    if path.relative_to(CONF).parts[0] not in ("sweep", "protocol")  # the latter is not of experiments.train: tests/probing
)
MOUNTS = {"transformer": "generator_size"}  # key of a group that is chosen for a part, not as it is
GENERATOR_GROUPS = ("generator", "head", "transformer")
NEEDED = {
    "evaluate": ["model={run}"],
    "export": ["run={run}"],
    "generate": ["model={run}"],
    "probe": ["tokenizer={run}"],
    "sweep": ["table=gsq/table01_codebook"],
    "tokenize": ["tokenizer={run}"],
    "report": ["table=gsq/table01_codebook"],
}
PLACES = {
    "image_folder": ["data.root={images}"],
    "indices": ["data.file=cache.safetensors"],
    "online": ["data.tokenizer=run", "data.num_classes=0"],
}
"""Required keys of the files of `data`."""


@pytest.fixture(autouse=True)
def machine_with_everything(tmp_path, random_weights) -> None:
    """Random weights, an empty folder of images and an empty run folder."""
    (tmp_path / "images").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("image_size: 64\n")
    write_cache(tmp_path / "tokens")


def choices_of(experiment: str) -> dict[str, str]:
    """The choices that an experiment makes, with those of the experiments that it starts from."""
    chosen: dict[str, str] = {}
    for entry in yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text())["defaults"]:
        if isinstance(entry, dict):
            chosen |= {key.removeprefix("override /"): choice for key, choice in entry.items()}
        elif entry.startswith("/experiment/"):
            chosen |= choices_of(entry.removeprefix("/experiment/"))
    return chosen


def of_generators(group: str, name: str) -> bool:
    """Whether only task=generator has this choice."""
    chosen = choices_of(name) if group == "experiment" else {group: name}
    return group in GENERATOR_GROUPS or chosen.get("task") == "generator"


def words_for(group: str, name: str, tmp_path: Path) -> list[str]:
    words = [f"{group}@{MOUNTS[group]}={name}" if group in MOUNTS else f"{group}={name}"]
    if of_generators(group, name):
        words += ["task=generator"] * (group in GENERATOR_GROUPS) + [f"data.file={tmp_path / 'tokens'}"]
    elif group in ("data", "experiment"):
        words += PLACES.get(choices_of(name).get("data", "") if group == "experiment" else name, [])
    return [word.format(images=tmp_path / "images") for word in words]


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_a_choice_composes_and_builds(group, name, tmp_path):
    config = compose("train", words_for(group, name, tmp_path)).config
    with torch.device("meta"):
        if of_generators(group, name):
            assert build(config["task"]["generator"]).tokens.num_tokens == TOKENS["num_tokens"]
        else:
            assert build(config["task"]["tokenizer"]).num_tokens(config["image_size"]) > 0
            build(config["task"]["discriminator"])
            build(weighted_losses(config["task"]["objective"]))
    for part in ("optimizer", "discriminator_optimizer", "schedule", "discriminator_schedule", "logger", "trainer"):
        if part in config and (group, name) not in {("trainer", "gpu"), ("trainer", "ddp"), ("trainer", "fsdp")}:
            build(config[part])


def unstated(node: Any, path: str = "") -> Iterator[str]:
    """Arguments of a target that the configuration leaves to a default: they could only be changed with a +."""
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    if isinstance(node, dict) and "_target_" in node:
        yield from (f"{path}.{name}" for name in signature(node["_target_"]) if name not in node)
    for name, entry in entries:
        yield from unstated(entry, f"{path}.{name}")


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_a_choice_states_every_key_of_what_it_builds(group, name, tmp_path):
    assert list(unstated(compose("train", words_for(group, name, tmp_path)).config)) == []


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_an_extra_key_beside_a_choice_is_refused(group, name, tmp_path):
    package = {"experiment": "", "scale": ""}.get(group, f"{MOUNTS.get(group, group)}.")
    with pytest.raises(ConfigError) as caught:
        compose("train", [*words_for(group, name, tmp_path), f"+{package}nonsense=1"])
    assert caught.value.key == f"{package}nonsense"


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_composes(verb, tmp_path):
    words = [word.format(run=tmp_path / "run") for word in NEEDED.get(verb, [])]
    composition = compose(verb, words)
    assert isinstance(composition.settings, SETTINGS[verb])
    if verb in ("sweep", "report"):
        assert compose(verb, [*words, "+nonsense=1"]).others == ("+nonsense=1",)
        return
    with pytest.raises(ConfigError) as caught:
        compose(verb, [*words, "+nonsense=1"])
    assert caught.value.key == "nonsense"


@pytest.mark.parametrize("verb", VERBS)
def test_the_settings_of_a_verb_are_the_keys_of_its_file(verb):
    """Those of a task or protocol are in its file."""
    declared = set(read_yaml(CONF / f"{verb}.yaml"))
    for group in MAIN_GROUPS:
        if f"- {group}: " in (CONF / f"{verb}.yaml").read_text():
            declared |= {key for path in (CONF / group).glob("*.yaml") for key in read_yaml(path)}
    fields = set(SETTINGS[verb].model_fields)
    assert {key for key, value in read_yaml(CONF / f"{verb}.yaml").items() if not isinstance(value, dict)} - fields <= {"evaluated"}
    assert fields - declared <= {"data", "trainer", "logger"}


@pytest.mark.parametrize("name", [name for group, name in CHOICES if group == "experiment" and not of_generators(group, name)])
def test_an_experiment_at_smoke_scale_needs_nothing_from_outside_but_its_discriminators_network(name, monkeypatch, tmp_path):
    monkeypatch.setenv("TESSERA_WEIGHTS", str(tmp_path / "nothing"))
    config = compose("train", [f"experiment={name}", "scale=smoke", "discriminator=none"]).config
    assert (config["updates"], config["image_size"], config["trainer"]["precision"]) == (2, 32, "32-true")
