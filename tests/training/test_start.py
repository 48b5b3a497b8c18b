"""Checks that need several built parts run before a run folder is created."""

import logging
import warnings

import pytest
import torch
from lightning.fabric.plugins.environments import SLURMEnvironment

from experiments.config.compose import compose
from experiments.config.errors import ConfigError
from experiments.training import loop
from experiments.training.loop import train
from experiments.training.trainer import trainer

WORDS = ["scale=smoke", "data=photos", "data.cuts_per_picture=1", "trainer=cpu"]


def run(folder, *words: str) -> int:
    overrides = [*WORDS, f"runs_folder={folder}", *words]
    return train(compose("train", overrides).config, overrides, "test")


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["quantizer=fsq", "loss.weights.entropy=0.1"], ("loss.weights.entropy", "")),
        (["quantizer=lfq", "latent_dim=32", "loss.weights.entropy=0.1"], ("loss.weights.entropy", "")),
        (["quantizer=bsq", "latent_dim=32", "loss.weights.entropy=0.1"], ("loss.weights.entropy", "")),
        (["quantizer.codebook_size=1"], ("task.tokenizer.quantizer.codebook_size", "")),
        (["~loss.weights.commitment"], ("loss.weights.commitment", "")),
        (["~loss.weights.discriminator"], ("loss.weights.discriminator", "")),
        (["loss.weights.discriminator=0"], ("loss.weights.discriminator", "")),
        (["loss.adversarial.gan=null", "loss.weights.adversarial=0"], ("loss.weights.discriminator", "")),
        (["trainer.devices=0"], ("trainer.devices", "")),
        (["trainer.devices=-2"], ("trainer.devices", "")),
        (["trainer.num_nodes=0"], ("trainer.num_nodes", "")),
    ],
)
def test_parts_that_clash_are_one_error_with_key_or_place_and_nothing_is_written(words, where, tmp_path):
    with pytest.raises(ConfigError) as caught:
        run(tmp_path / "runs", *words)
    assert (caught.value.key, caught.value.place) == where
    assert list(tmp_path.iterdir()) == []


def test_a_discriminator_may_learn_although_the_tokenizer_has_no_adversarial_term(tmp_path):
    assert run(tmp_path, "loss.weights.adversarial=0", "discriminator_start=1") == 0
    (folder,) = (tmp_path / "test").iterdir()
    header = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert "train/loss/discriminator" in header
    assert "train/loss/adversarial" not in header


@pytest.mark.parametrize(
    ("accelerator", "gpus", "devices", "chosen"),
    [
        ("auto", 0, "auto", ("cpu", 1)),
        ("auto", 2, "auto", ("cuda", 2)),
        ("auto", 2, 1, ("cuda", 1)),
        ("gpu", 2, -1, ("cuda", 2)),
        ("cpu", 2, -1, ("cpu", 1)),
        ("cpu", 0, 3, ("cpu", 3)),
    ],
)
def test_devices_are_nvidias_or_the_processor(accelerator, gpus, devices, chosen, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    keywords = trainer(accelerator, devices, 1, "32-true", "ddp").keywords
    assert (keywords["accelerator"], keywords["devices"]) == chosen


def test_more_gpus_than_there_are_is_one_message(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"trainer\.devices=3: torch finds 2 GPUs"):
        trainer("gpu", 3, 1, "32-true", "ddp")


def idle_settings(caplog, monkeypatch, tmp_path, *words: str) -> set[str]:
    """The settings that a training names as those without effect."""
    monkeypatch.setattr(loop, "_fit_or_fail", lambda *_: 0)
    with caplog.at_level(logging.WARNING, "experiments"):
        assert run(tmp_path, *words) == 0
    return {str(record.args[0]) for record in caplog.records if "has no effect" in record.message}


def test_settings_of_a_discriminator_that_is_absent_are_named(caplog, monkeypatch, tmp_path):
    set_by_user = ["loss.weights.lecam=0.1", "discriminator_start=1", "discriminator_optimizer.betas=[0.5,0.9]"]
    named = idle_settings(caplog, monkeypatch, tmp_path, "discriminator=none", *set_by_user)
    assert named == {word.partition("=")[0] for word in set_by_user}


def test_values_that_nobody_set_are_not_named(caplog, monkeypatch, tmp_path):
    assert idle_settings(caplog, monkeypatch, tmp_path, "discriminator=none", "quantizer=fsq", "loss.weights.gradient_penalty=0") == set()


def test_a_weight_that_the_quantizer_has_no_term_for_is_named(caplog, monkeypatch, tmp_path):
    assert idle_settings(caplog, monkeypatch, tmp_path, "quantizer=fsq", "loss.weights.codebook=2") == {"loss.weights.codebook"}


def test_lightning_gives_no_advice_about_srun(monkeypatch, tmp_path):
    (tmp_path / "srun").write_text("")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        settings = trainer("cpu", 1, 1, "32-true", "ddp")
        settings(logger=False)
        SLURMEnvironment.detect()
    assert [str(warning.message) for warning in seen if "srun" in str(warning.message)] == []
