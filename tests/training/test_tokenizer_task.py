"""A training step: what it computes, what it leaves alone, and what it never does."""

import math
from types import SimpleNamespace

import pytest
import torch

from experiments.config.errors import NonFinite
from experiments.training.callbacks.interruption import Interruption
from experiments.training.callbacks.saving import Checkpoints
from experiments.training.callbacks.validation import Validation
from tests.training.small_task import batch, make_task, no_host_reads, weights
from tokenizer.interfaces import ImageBatch
from tokenizer.quantizers import lookup


def test_a_step_runs_encoder_and_decoder_once():
    task = make_task()
    calls = {"encoder": 0, "quantizer": 0, "decoder": 0}
    for name in calls:
        part = getattr(task.tokenizer, name)
        part.register_forward_hook(lambda *_, name=name: calls.__setitem__(name, calls[name] + 1))
    task.training_step(batch(0), 0)
    assert calls == {"encoder": 1, "quantizer": 1, "decoder": 1}


def test_the_generators_backward_leaves_no_gradient_in_the_discriminator():
    task = make_task()
    task._generator_backward(batch(0).images, adversarial=True)
    assert all(p.grad is None for p in task.discriminator.parameters())
    assert all(p.requires_grad for p in task.discriminator.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in task.tokenizer.decoder.parameters())


def test_the_discriminators_backward_leaves_the_tokenizers_gradient_alone():
    task = make_task()
    _, reconstruction = task._generator_backward(batch(0).images, adversarial=True)
    before = [p.grad.clone() for p in task.tokenizer.parameters()]
    task._discriminator_backward(batch(0).images, reconstruction.detach())
    for p, gradient in zip(task.tokenizer.parameters(), before, strict=True):
        assert torch.equal(p.grad, gradient)
    assert any(p.grad.abs().sum() > 0 for p in task.discriminator.parameters())


@pytest.mark.parametrize("term", ["reconstruction", "adversarial"])
def test_every_generator_term_reaches_the_decoder(term):
    task = make_task("loss.weights.commitment=0", "loss.weights.codebook=0")
    task.objective.weights |= dict.fromkeys(("reconstruction", "adversarial"), 0.0) | {term: 1.0}
    task._generator_backward(batch(0).images, adversarial=True)
    assert task.tokenizer.decoder.last_layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("term", ["commitment", "codebook", "entropy", "total_coding_rate"])
def test_every_codebook_term_reaches_its_side(term):
    task = make_task(
        *(f"loss.weights.{name}={float(name == term)}" for name in ("reconstruction", "commitment", "codebook")), f"loss.weights.{term}=1"
    )
    task._generator_backward(batch(0).images, adversarial=False)
    reached = [task.tokenizer.quantizer.codes] if term == "codebook" else task.tokenizer.encoder.parameters()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in reached)


@pytest.mark.parametrize("quantizer", ["gsq", "vq", "rvq", "fsq", "lfq", "bsq"])
def test_a_step_reads_nothing_on_the_host_unless_it_logs(quantizer, monkeypatch):
    monkeypatch.setattr(lookup, "sync_is_free", lambda device: False)  # as on an accelerator
    task = make_task(f"quantizer={quantizer}", quantizer_words=())
    task.training_step(batch(0), 0)
    with no_host_reads(monkeypatch):
        task.training_step(batch(1), 1)
    assert task.updates == 2


def test_the_guard_against_host_reads_notices_one(monkeypatch):
    with pytest.raises(AssertionError, match="reads the device"), no_host_reads(monkeypatch):
        float(torch.ones(()))


def test_a_bad_image_changes_no_weight_and_is_named_when_the_host_reads():
    task = make_task()
    task.training_step(batch(0), 0)
    before, average = weights(task.tokenizer), weights(task.average.module)
    discriminator = weights(task.discriminator)
    bad = batch(1)
    bad.images[2, 0, 5, 5] = float("nan")
    task.training_step(bad, 1)
    for name, tensor in weights(task.tokenizer).items():
        assert torch.equal(tensor, before[name]), name
    for name, tensor in weights(task.discriminator).items():
        assert torch.equal(tensor, discriminator[name]), name
    assert all(torch.isfinite(tensor).all() for tensor in weights(task.average.module).values())
    assert not all(torch.equal(tensor, average[name]) for name, tensor in weights(task.average.module).items())
    with pytest.raises(NonFinite, match="reconstruction=nan") as caught:
        task.finite.verify()
    assert caught.value.update == 2
    assert math.isnan(caught.value.terms["reconstruction"])
    assert "image 1.2" in caught.value.keys


@pytest.mark.parametrize("words", [(), ("loss.weights.lecam=0.1", "loss.weights.gradient_penalty=1")])
def test_two_halves_accumulated_are_one_batch(words):
    whole, halves = make_task(*words), make_task("accumulate=2", *words)
    for update in range(2):
        images = batch(update, 8)
        whole.training_step(images, update)
        for part in (slice(0, 4), slice(4, 8)):
            halves.training_step(ImageBatch(images.images[part], images.labels[part], images.keys[part]), update)
    assert whole.updates == halves.updates == 2
    for (name, a), b in zip(whole.tokenizer.state_dict().items(), halves.tokenizer.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-4, msg=name)
    for (name, a), b in zip(whole.discriminator.state_dict().items(), halves.discriminator.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-4, msg=name)
    if words:
        torch.testing.assert_close(halves.objective.adversarial.lecam.means, whole.objective.adversarial.lecam.means, rtol=1e-3, atol=1e-6)


def test_the_discriminator_waits_for_its_start():
    task = make_task("discriminator_start=2")
    before = weights(task.discriminator)
    for update in range(3):
        waiting = all(torch.equal(tensor, before[name]) for name, tensor in weights(task.discriminator).items())
        assert waiting == (update <= 2)
        task.training_step(batch(update), update)
    assert not all(torch.equal(tensor, before[name]) for name, tensor in weights(task.discriminator).items())


def test_frozen_parts_and_the_average_are_out_of_optimizers_and_checkpoints():
    task = make_task()
    named = set(task.state_dict())
    assert {name.split(".")[0] for name in named} == {"tokenizer", "discriminator"}
    assert len(list(task.parameters())) == len(list(task.tokenizer.parameters())) + len(list(task.discriminator.parameters()))


def test_the_tokenizer_asks_no_discriminator_that_weighs_nothing():
    task = make_task("loss.weights.adversarial=0")
    calls = []
    task.discriminator.register_forward_hook(lambda *_: calls.append(1))
    before = weights(task.discriminator)
    task.training_step(batch(0), 0)
    assert len(calls) == 2  # real and fake, to learn from
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(task.discriminator).items())


@pytest.mark.parametrize("pause", ["validation", "checkpoint"])
def test_the_speed_is_that_of_steps_alone(pause, tmp_path, monkeypatch):
    task = make_task()
    now = [0.0]
    monkeypatch.setattr("experiments.training.clock.time", SimpleNamespace(monotonic=lambda: now[0]))
    seen = []
    logger = SimpleNamespace(log_metrics=lambda values, step: seen.append(values.get("perf/images_per_second")))
    task._trainer = SimpleNamespace(
        log_every_n_steps=1, world_size=1, loggers=[logger], global_rank=0, is_global_zero=False, should_stop=False
    )

    def wait(*_, **__):
        now[0] += 1000
        return SimpleNamespace(values={}, images=[])

    task.trainer.save_checkpoint = wait
    checkpoints = Checkpoints(tmp_path, 1, 1, 1)
    callback = Validation(wait, 1, tmp_path, Interruption(checkpoints, print)) if pause == "validation" else checkpoints
    task.on_train_start()
    for update in range(2):
        now[0] += 2
        task.training_step(batch(update), update)
        callback.on_train_batch_end(task.trainer, task, None, None, update)
    assert [speed for speed in seen if speed] == [2.0, 2.0]  # four images in two seconds


def test_gradients_are_clipped_per_optimizer():
    task = make_task("optimizer.clip=0.001", "discriminator_optimizer.clip=0.002")
    seen = []
    optimizers = task._optimizers()
    task._optimizers = lambda: optimizers
    for optimizer, limit in zip(optimizers, (0.001, 0.002), strict=True):
        optimizer.step = lambda o=optimizer, limit=limit: seen.append(
            (float(torch.nn.utils.get_total_norm([p.grad for g in o.param_groups for p in g["params"] if p.grad is not None])), limit)
        )
    task.training_step(batch(0), 0)
    assert len(seen) == 2
    for norm, limit in seen:
        assert norm == pytest.approx(limit, rel=1e-3)
