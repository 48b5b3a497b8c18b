"""Image losses are combined at the image gradient: gradients, adaptive weight, penalties and their logged values."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments.config.errors import ConfigError
from experiments.data.transforms import normalize
from experiments.training.balance import adaptive_weight
from experiments.training.objective import Objective
from experiments.training.step_log import ADAPTIVE_WEIGHT, GRADIENT_RATIO
from experiments.training.tokenizer_task import TokenizerTask
from tests.training.small_task import batch, make_task, no_host_reads, weights
from tokenizer.interfaces import AdversarialLoss
from tokenizer.quantizers import lookup

EVERYTHING = (
    "loss.adaptive_limit=1e4",
    "loss.weights.lecam=0.1",
    "loss.weights.gradient_penalty=0.1",
    "loss.adversarial.gradient_penalty.every=2",
)


class Softplus(AdversarialLoss):
    """In the precision of its logits."""

    of_generator, of_discriminator = ("adversarial",), ("discriminator",)

    def generator_terms(self, fake_logits):
        return {"adversarial": F.softplus(-fake_logits).mean()}

    def discriminator_terms(self, real_logits, fake_logits, real_images, update):
        return {"discriminator": F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()}


class Matching(Softplus):
    """Another term of the generator, without one of the discriminator."""

    of_generator, of_discriminator = ("matching",), ()

    def generator_terms(self, fake_logits):
        return {"matching": fake_logits.square().mean()}

    def discriminator_terms(self, real_logits, fake_logits, real_images, update):
        return {}


class Edges(nn.Module):
    """A perceptual distance that needs no weights."""

    def forward(self, reconstruction, images):
        return F.mse_loss(reconstruction.diff(dim=-1).tanh(), images.diff(dim=-1).tanh())


def double_task(*words: str) -> TokenizerTask:
    """A task whose image losses compute in double precision."""
    task = make_task("loss.weights.adversarial=0.3", "loss.weights.reconstruction=0.7", *words)
    task.tokenizer.double()
    task.discriminator.double()
    task.tokenizer.decoder.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(), *inputs[1:]))  # a look-up is fp32
    task.objective.image = nn.ModuleDict({"reconstruction": nn.MSELoss(), "perceptual": Edges()})
    task.objective.adversarial = nn.ModuleDict({"gan": Softplus()})
    task.objective.weights["perceptual"] = 0.6
    return task


def naive(task: TokenizerTask, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The sum of the image's losses but for the adversarial one, that one unweighted, the quantizer's sum, and the lengths' ratio."""
    output = task.tokenizer(images)
    reconstruction = output.decoder.reconstruction
    image = 0.7 * F.mse_loss(reconstruction, images) + 0.6 * Edges()(reconstruction, images)
    adversarial = F.softplus(-task.discriminator(reconstruction)).mean()
    inner = sum(task.objective.weights[name] * loss for name, loss in output.quantizer.losses.items())
    weight = task.tokenizer.decoder.last_layer.weight
    lengths = [torch.autograd.grad(loss, weight, retain_graph=True)[0].norm() for loss in (image, adversarial)]
    return image, adversarial, inner, lengths[0] / lengths[1]


@pytest.mark.parametrize("limit", [None, 1e4, 0.5])
def test_gradients_are_those_of_the_whole_sum_at_once(limit):
    task, images = double_task(f"loss.adaptive_limit={'null' if limit is None else limit}"), normalize(batch(0).images).double()
    image, adversarial, inner, ratio = naive(task, images)
    factor = 1.0 if limit is None else min(float(ratio), limit)
    assert limit != 1e4 or factor not in (1.0, 1e4)
    parameters = dict(task.tokenizer.named_parameters())
    wanted = torch.autograd.grad(image + inner + 0.3 * factor * adversarial, list(parameters.values()))
    task._generator_backward(images, adversarial=True)
    for (name, parameter), gradient in zip(parameters.items(), wanted, strict=True):
        close = 1e-6 * gradient.abs().max().item()  # the look-up and the adaptive weight are fp32
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=close, msg=lambda text, name=name: f"{name}: {text}")


def test_the_adaptive_weight_matches_its_definition_and_is_logged_with_the_gradient_ratio():
    task, images = double_task("loss.adaptive_limit=1e4"), normalize(batch(0).images).double()
    ratio = float(naive(task, images)[-1])
    task._generator_backward(images, adversarial=True)
    assert task._diagnostics[ADAPTIVE_WEIGHT].item() == pytest.approx(ratio, rel=1e-5)
    assert task._diagnostics[GRADIENT_RATIO].item() == pytest.approx(0.3, rel=1e-5)  # the weight that makes it as long, times 0.3
    assert not task._diagnostics[ADAPTIVE_WEIGHT].requires_grad


def test_logged_values_of_an_accumulated_batch_are_means_over_its_parts():
    task = make_task("accumulate=2", "loss.weights.adversarial=0.3", "loss.adaptive_limit=1e4")
    health_logs, factors = [], []
    task.trainer.log_every_n_steps = 1
    task._log = lambda terms, norms, health, size: health_logs.append(health)
    for number in range(2):
        task.training_step(batch(number, 2), number)
        factors.append(task._diagnostics[ADAPTIVE_WEIGHT].item())
    assert factors[0] != factors[1]
    assert health_logs[0][ADAPTIVE_WEIGHT].item() == pytest.approx(sum(factors) / 2)


def test_a_fixed_weight_computes_the_gradient_ratio_only_in_steps_that_log():
    task, images = double_task(), normalize(batch(0).images).double()
    ratio = float(naive(task, images)[-1])
    task._generator_backward(images, adversarial=True)
    assert task._diagnostics == {}
    task.trainer.log_every_n_steps = 1
    task._generator_backward(images, adversarial=True)
    assert set(task._diagnostics) == {GRADIENT_RATIO}
    assert task._diagnostics[GRADIENT_RATIO].item() == pytest.approx(0.3 / ratio, rel=1e-5)


@pytest.mark.parametrize(
    ("wanted", "adversarial", "expected"),
    [
        (6.0, 2.0, 3.0),
        (6.0, 1e-9, 100.0),  # at the limit
        (0.05, 1e-9, 50.0),  # not below 1e-3 in the denominator
        (float("nan"), 1.0, 1.0),
        (1.0, float("nan"), 1.0),
        (float("inf"), 1.0, 100.0),
        (0.0, 1.0, 0.0),
    ],
)
def test_the_adaptive_weight_stays_within_its_bounds(wanted, adversarial, expected):
    assert adaptive_weight(torch.tensor(wanted), torch.tensor(adversarial), 100.0).item() == pytest.approx(expected)


def test_lengths_are_fp32_under_bf16():
    adaptive_weights = []
    for enabled in (False, True):
        task = make_task("loss.adaptive_limit=1e4")
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            task._generator_backward(normalize(batch(0).images), adversarial=True)
        assert task._diagnostics[ADAPTIVE_WEIGHT].dtype == torch.float32
        adaptive_weights.append(task._diagnostics[ADAPTIVE_WEIGHT].item())
    assert adaptive_weights[1] == pytest.approx(adaptive_weights[0], rel=0.1)


def test_neither_balance_nor_penalties_read_the_device(monkeypatch):
    monkeypatch.setattr(lookup, "sync_is_free", lambda device: False)  # as on an accelerator
    task = make_task(*EVERYTHING, "log_every=100")
    task.training_step(batch(0), 0)
    with no_host_reads(monkeypatch):
        task.training_step(batch(1), 1)
    assert task.updates == 2


def test_a_step_that_logs_computes_the_ratio_without_a_read_of_its_own(monkeypatch):
    monkeypatch.setattr(lookup, "sync_is_free", lambda device: False)  # as on an accelerator
    task = make_task("updates=100")
    task.trainer.log_every_n_steps = 1
    with no_host_reads(monkeypatch):
        task._generator_backward(normalize(batch(0).images), adversarial=True)
    assert GRADIENT_RATIO in task._diagnostics


def logged(task: TokenizerTask, updates: int) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    task.trainer.log_every_n_steps = 1
    task.trainer.loggers = [SimpleNamespace(log_metrics=lambda values, step: rows.append(values))]
    for update in range(updates):
        task.training_step(batch(update), update)
    return rows


def test_the_total_is_the_generators_and_knows_the_adaptive_weight():
    first, second = logged(make_task(*EVERYTHING), 2)
    assert {"train/loss/lecam", ADAPTIVE_WEIGHT, GRADIENT_RATIO, "train/logits/real", "train/logits/fake"} <= set(first)
    assert "train/loss/gradient_penalty" not in first  # every second update
    assert second["train/weighted/gradient_penalty"] == pytest.approx(0.1 * second["train/loss/gradient_penalty"])
    assert second["train/loss/gradient_penalty"] > 0
    assert second["train/weighted/adversarial"] == pytest.approx(0.005 * second[ADAPTIVE_WEIGHT] * second["train/loss/adversarial"])
    own = ("reconstruction", "commitment", "codebook", "adversarial")
    assert second["train/loss/total"] == pytest.approx(sum(second[f"train/weighted/{name}"] for name in own))


def test_the_penalty_is_computed_on_real_images():
    task = make_task("loss.weights.gradient_penalty=1")
    real = normalize(batch(0).images)
    terms = task._discriminator_backward(real, torch.zeros_like(real))
    leaf = real.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(task.discriminator(leaf).sum(), leaf)
    expected = (2 * slopes).square().sum((1, 2, 3)).mean()
    assert terms["gradient_penalty"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert all(p.grad is None for p in task.tokenizer.parameters())


def test_the_penalty_has_its_share_in_the_discriminators_gradient():
    gradients = []
    for weight in (0.0, 100.0):
        task = make_task(f"loss.weights.gradient_penalty={weight}")
        task._discriminator_backward(normalize(batch(0).images), torch.zeros(4, 3, 32, 32))
        gradients.append([p.grad for p in task.discriminator.parameters()])
    assert any(not torch.allclose(a, b) for a, b in zip(*gradients, strict=True))


def test_running_means_are_in_the_checkpoint_and_a_bad_image_does_not_change_them():
    task = make_task(*EVERYTHING)
    task.training_step(batch(0), 0)
    before = weights(task.objective)
    assert list(before) == ["adversarial.lecam.means"]
    assert "objective.adversarial.lecam.means" in task.state_dict()
    assert before["adversarial.lecam.means"].abs().min() > 0
    bad = batch(1)
    bad.images[2, 0, 5, 5] = float("nan")
    task.training_step(bad, 1)
    assert torch.equal(task.objective.adversarial.lecam.means, before["adversarial.lecam.means"])
    task.training_step(batch(2), 2)
    assert torch.isfinite(task.objective.adversarial.lecam.means).all()
    assert not torch.equal(task.objective.adversarial.lecam.means, before["adversarial.lecam.means"])


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["loss.adaptive_limit=0"], ("loss.adaptive_limit", "")),
        (["loss.weights.lecam=1", "loss.adversarial.lecam=null"], ("loss.weights.lecam", "")),
        (
            ["loss.weights.gradient_penalty=1", "loss.adversarial.gradient_penalty.every=0"],
            ("task.objective.adversarial.gradient_penalty.every", ""),
        ),
    ],
)
def test_a_wrong_setting_is_refused_with_its_key_or_place(words, where):
    with pytest.raises(ConfigError) as caught:
        make_task(*words)
    assert (caught.value.key, caught.value.place) == where


def test_losses_of_weight_zero_are_not_built():
    objective = make_task("loss.adversarial.lecam.decay=7", "loss.adversarial.gradient_penalty.every=0").objective
    assert (list(objective.inner), list(objective.adversarial)) == ([], ["gan"])


WEIGHTS = {"adversarial": 0.0, "discriminator": 1.0, "matching": 2.0}


def test_a_generator_term_of_another_name_reaches_the_tokenizer_and_is_logged():
    task = make_task("loss.weights.adversarial=0")
    task.objective.adversarial["matching"] = Matching()
    task.objective.weights["matching"] = 2.0
    task.trainer.log_every_n_steps = 1
    logged = []
    task.report_step = lambda values, size: logged.append(values)
    task.training_step(batch(0), 0)
    assert logged[0]["train/weighted/matching"] == 2 * logged[0]["train/loss/matching"] > 0
    assert "train/loss/adversarial" not in logged[0]
    without = logged[0]["train/loss/total"] - logged[0]["train/weighted/matching"]
    names = ("reconstruction", "commitment", "codebook")
    assert without == pytest.approx(sum(logged[0][f"train/weighted/{name}"] for name in names))


@pytest.mark.parametrize(
    ("losses", "weights", "limit", "key"),
    [
        ({"gan": Softplus(), "matching": Matching()}, WEIGHTS | {"adversarial": 0.1}, 10.0, "loss.adaptive_limit"),
        ({"gan": Softplus(), "other": Softplus()}, {"adversarial": 0.1, "discriminator": 1.0}, None, "loss.weights.adversarial"),
        ({"gan": Softplus()}, WEIGHTS, None, "loss.weights.matching"),
        ({"gan": Softplus(), "matching": Matching()}, {"adversarial": 0.1, "discriminator": 1.0}, None, "loss.weights.matching"),
    ],
    ids=["one factor for two terms", "two losses with one term", "a weight without a loss", "a loss without a weight"],
)
def test_losses_that_do_not_go_with_their_weights_are_refused(losses, weights, limit, key):
    with pytest.raises(ConfigError) as caught:
        Objective(weights, {}, {}, losses, limit)
    assert caught.value.key == key


def test_two_generator_terms_are_accepted_without_an_adaptive_factor():
    objective = Objective(WEIGHTS | {"adversarial": 0.1}, {}, {}, {"gan": Softplus(), "matching": Matching()})
    assert objective.of_generator == ["adversarial", "matching"]
    assert list(objective.generator_terms(torch.ones(2, 3))) == ["adversarial", "matching"]
