"""Shortcut losses of hybrid tokenizers."""

from types import SimpleNamespace

import pytest
import torch

from experiments.config.compose import compose
from experiments.config.errors import ConfigError
from experiments.runs.build import build
from experiments.training.loop import build_task
from tokenizer.interfaces import TokenizerOutput, TrainingPass
from tokenizer.losses.shortcut import ShortcutLoss

HYBRID = ("transformer@encoder_size=mini_s", "transformer@decoder_size=mini_s", "multipliers=[1,1,1]", "patch_size=1")


def small_task(*words: str):
    config = compose("train", ["scale=smoke", "codebook_size=64", "loss.weights.shortcut=1", *words]).config
    return build_task(config, build(config["data"], "data"))


def test_the_loss_is_that_of_the_painted_map_and_the_squared_error_of_the_maps():
    before = torch.tensor([[[[1.0, 2.0]]]], requires_grad=True)
    after = torch.tensor([[[[3.0, 2.5]]]], requires_grad=True)
    output = TokenizerOutput(SimpleNamespace(features={"map": before}), SimpleNamespace(), SimpleNamespace(features={"map": after}))
    tokenizer = SimpleNamespace(decoder=SimpleNamespace(paint=lambda cells: 10 * cells))
    current = TrainingPass(torch.zeros(1, 1, 1, 2), output, 7, image_loss=lambda image: image.sum())
    loss = ShortcutLoss(until=7)(tokenizer, current)
    assert loss.item() == pytest.approx(30 + (4 + 0.25) / 2)
    loss.backward()
    assert before.grad.tolist() == [[[[10.0, 10.0]]]]  # none of the squared error
    assert after.grad.tolist() == [[[[2.0, 0.5]]]]


def test_there_is_no_loss_after_the_last_update():
    current = TrainingPass(torch.zeros(1, 1, 1, 2), SimpleNamespace(), 8)
    assert ShortcutLoss(until=7)(None, current) is None


@pytest.mark.parametrize("backbone", ["hybrid_1d", "hybrid_2d"])
def test_the_image_loss_is_that_of_the_objective_with_its_weights(backbone):
    task = small_task(f"backbone={backbone}", *HYBRID, "loss.weights.reconstruction=0.5", "loss.inner.shortcut.until=1")
    task.allocate(torch.device("cpu"))
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    output = task.tokenizer(images)
    terms = task.objective.inner_terms(task.tokenizer, TrainingPass(images, output, 1))
    before, after = output.encoder.features["map"], output.decoder.features["map"]
    painted = task.tokenizer.decoder.head(before)[0]
    expected = 0.5 * (painted - images).square().mean() + (after - before).square().mean()
    torch.testing.assert_close(terms["shortcut"], expected)
    later = task.objective.inner_terms(task.tokenizer, TrainingPass(images, output, 2))
    assert set(terms) - set(later) == {"shortcut"}


@pytest.mark.parametrize("backbone", ["conv", "vqgan_f16"])
def test_a_backbone_without_transformers_is_refused(backbone):
    with pytest.raises(ConfigError, match="expected backbone=hybrid_1d or hybrid_2d") as caught:
        small_task(f"backbone={backbone}")
    assert caught.value.key == "loss.weights.shortcut"


def test_an_end_below_one_is_refused():
    with pytest.raises(ConfigError) as caught:
        small_task("backbone=hybrid_1d", *HYBRID, "loss.inner.shortcut.until=0")
    assert (caught.value.key, caught.value.expected) == ("task.objective.inner.shortcut.until", "at least 1")
