"""Which keys of a training's configuration its identity includes."""

import re

import pytest
import yaml

from experiments.config.compose import CONF, compose
from experiments.runs.folder import identity

CONTENTS = {"data": "x", "init_from": None}
# Places, devices, reports, and what is saved or shown; the content of `init_from` is in the identity, its path is not.
CHANGE_NO_NUMBER = {
    "checkpoint_every", "init_from", "keep_checkpoints", "log_every", "logger", "plugins", "rerun", "resume", "runs_folder",
    "validate_every", "workers",
}  # fmt: skip
OF_GENERATORS = {"recompute", "samples_shown", "tokenizer"}
UNUSED_HERE = {"discriminator_input_size"}  # by the default discriminator
INCLUDED = ("task", "data", "batch_size")


def test_every_key_that_an_identity_leaves_out_is_listed_here():
    composition = compose("train", ["quantizer=gsq"])
    raw, reached, waiting = composition.draft.raw, set(), list(INCLUDED)
    while waiting:
        key = waiting.pop()
        if key in raw and key not in reached:
            reached.add(key)
            references = re.findall(r"\$\{(?:\w+:)?([\w.,]+)\}", str(raw[key]))
            waiting += [name.split(".")[0] for reference in references for name in reference.split(",")]
    assert set(raw) - reached - {"trainer"} == CHANGE_NO_NUMBER | UNUSED_HERE
    assert set(composition.config["trainer"]) == {"_target_", "precision", "accelerator", "devices", "num_nodes", "strategy"}


def test_every_key_of_generators_alone_is_listed_here():
    files = [yaml.safe_load((CONF / name).read_text()) for name in ("train.yaml", "task/generator.yaml")]
    assert set(files[1]) - set(files[0]) == OF_GENERATORS | {"compile", "tokens", "task"}


@pytest.mark.parametrize("key", INCLUDED)
def test_what_is_reached_from_these_keys_is_included(key):
    config = compose("train", ["quantizer=gsq"]).config
    changed = {**config[key], "more": 1} if isinstance(config[key], dict) else config[key] + 1
    assert identity({**config, key: changed}, CONTENTS) != identity(config, CONTENTS)


def test_compiling_changes_the_identity_and_not_compiling_does_not():
    config = compose("train", ["quantizer=gsq"]).config
    assert identity({**config, "compile": True}, CONTENTS) != identity(config, CONTENTS) == identity({**config, "compile": False}, CONTENTS)


@pytest.mark.parametrize("key", sorted(CHANGE_NO_NUMBER | OF_GENERATORS))
def test_the_listed_keys_change_no_identity(key):
    config = compose("train", ["quantizer=gsq"]).config
    assert identity({**config, key: "other"}, CONTENTS) == identity(config, CONTENTS)
