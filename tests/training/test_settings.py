"""Numbers of a training that cannot be are one error with their key, before a folder is made."""

import logging
import math

import pytest
import torch
from torch import nn

from experiments.config.compose import compose
from experiments.config.errors import ConfigError, NonFinite
from experiments.runs import models
from experiments.training.checks import check
from experiments.training.clock import seed_device
from experiments.training.finite import FiniteCheck
from experiments.training.loop import train
from experiments.training.optimizers import AdamW
from experiments.training.schedules import Constant
from tests.training.small_task import batch, make_task

VALID = {"learning_rate": 1e-3, "betas": (0.9, 0.99), "weight_decay": 0.05, "epsilon": 1e-8, "clip": 2.0}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("learning_rate", value) for value in (math.nan, math.inf, 1e30, -1.0)),
        *(("betas", value) for value in ((0.9, 1.5), (math.nan, 0.9), (-0.1, 0.9), (0.9,))),
        *(("weight_decay", value) for value in (-1.0, math.nan, math.inf)),
        *(("epsilon", value) for value in (0.0, -1.0, math.nan, math.inf)),
        *(("clip", value) for value in (0.0, math.nan, math.inf)),
    ],
)
def test_a_setting_of_an_optimizer_that_cannot_be_names_its_key(name, value):
    with pytest.raises(ConfigError) as caught:
        AdamW(**{**VALID, name: value}, schedule=Constant(0))
    assert caught.value.key.rpartition(".")[2] == name


def compose_and_train(overrides):
    """As the command line, where an error names the key that sets a value."""
    composition = compose("train", overrides)
    try:
        train(composition.config, overrides, "test")
    except ConfigError as error:
        raise composition.draft.explain(error) from error


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["discriminator_optimizer.betas=[0.5,2]"], "discriminator_optimizer.betas"),
        (["discriminator_optimizer.clip=-1"], "discriminator_optimizer.clip"),
        (["optimizer.weight_decay=nan"], "optimizer.weight_decay"),
        (["discriminator_learning_rate=2"], "discriminator_learning_rate"),
        (["discriminator_schedule.warmup=-1"], "discriminator_schedule.warmup"),
        (["schedule.final=2"], "schedule.final"),
        (["latent_dim=-1", "quantizer=lfq"], "latent_dim"),
        (["quantizer=rvq", "levels=0"], "levels"),
        (["discriminator.width=-1"], "discriminator.width"),
        (["discriminator.layers=1000000000000"], "discriminator.layers"),
        (["loss.weights.lecam=1", "loss.adversarial.lecam.decay=1"], "loss.adversarial.lecam.decay"),
        (["loss.weights.entropy=1", "loss.inner.entropy.temperature=0"], "loss.inner.entropy.temperature"),
        (["width=9999999999999999999999"], "width"),
        (["width=1000000000001"], "backbone.encoder.norm_groups"),
    ],
)
def test_a_number_out_of_range_is_an_error_with_the_key_as_it_is_typed(words, key, tmp_path):
    with pytest.raises(ConfigError) as caught:
        compose_and_train(["scale=smoke", "data=digits", "trainer=cpu", f"runs_folder={tmp_path / 'runs'}", *words])
    assert caught.value.key == key
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_loss_weight_that_cannot_be_names_its_key(value):
    config = compose("train", ["scale=smoke"]).config
    config["task"]["objective"]["weights"]["reconstruction"] = value
    with pytest.raises(ConfigError) as caught:
        check(config)
    assert caught.value.key == "loss.weights.reconstruction"


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["codebook_size=1000000000000"], "task.tokenizer.quantizer"),
        (["width=1000000"], "task.tokenizer.decoder"),
        (["batch_size=1000000000"], "batch_size"),
        (["batch_size=1000000000000"], "batch_size"),
        (["image_size=1000000"], "image_size"),
        (["quantizer=rvq", "levels=1000000000000"], "task.tokenizer.quantizer"),
    ],
)
def test_sizes_beyond_the_memory_are_refused_before_anything_is_allocated(words, key, tmp_path):
    overrides = ["scale=smoke", "data=digits", "discriminator=none", "trainer=cpu", f"runs_folder={tmp_path / 'runs'}", *words]
    with pytest.raises(ConfigError) as caught:
        train(compose("train", overrides).config, overrides, "test")
    assert caught.value.key == key
    assert list(tmp_path.iterdir()) == []


def test_an_accumulated_batch_names_what_its_parts_compute_by_themselves():
    words = ["accumulate=2", "loss.weights.total_coding_rate=0.1", "loss.weights.lecam=0.1", "loss.adaptive_limit=1"]
    coupled = make_task(*words).coupled()
    assert [name for name in coupled if name.startswith("loss.")] == [
        "loss.weights.total_coding_rate", "loss.weights.lecam", "loss.adaptive_limit",
    ]  # fmt: skip
    assert make_task("accumulate=2", "discriminator=none", *words[2:]).coupled() == []


def test_the_error_about_a_value_that_is_not_finite_has_the_computed_terms_and_the_checkpoint(tmp_path):
    check = FiniteCheck(("reconstruction", "perceptual"))
    check(1, {"reconstruction": torch.tensor(math.nan)}, [torch.tensor(1.0)])
    with pytest.raises(NonFinite) as caught:
        check.verify()
    assert list(caught.value.terms) == ["reconstruction"]
    assert "no checkpoint" in str(caught.value)
    check.checkpoint = tmp_path / "updates_00000007.ckpt"
    with pytest.raises(NonFinite, match="updates_00000007"):
        check.verify()


def test_noise_is_that_of_the_seed_of_torch():
    torch.manual_seed(2**63 + 5)
    expected = torch.randn(4)
    seed_device(2**63 + 5, torch.device("cpu"))
    assert torch.equal(torch.randn(4), expected)


def test_the_average_walks_over_the_modules_once(monkeypatch):
    task = make_task()
    walks = []
    pairs = type(task.average)._pairs
    monkeypatch.setattr(type(task.average), "_pairs", lambda self, module: walks.append(1) or pairs(self, module))
    for number in range(3):
        task.training_step(batch(number), number)
    assert len(walks) == 1


def test_initial_weights_that_match_by_less_than_half_are_a_warning(monkeypatch, tmp_path, caplog):
    source = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(3, 3)})
    target = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(4, 4)})
    monkeypatch.setattr(models, "_load", lambda *_: (source, {}))
    with caplog.at_level(logging.INFO, "experiments"):
        assert list(models.initial_state(target, tmp_path)) == ["a.weight"]
    (record,) = [record for record in caplog.records if record.args and record.args[:2] == (1, 3)]
    assert record.levelno == logging.WARNING
