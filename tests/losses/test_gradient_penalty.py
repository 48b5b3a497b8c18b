import pytest
import torch
import torch.nn.functional as F

from tokenizer.losses.gradient_penalty import GradientPenaltyLoss


def images(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.double).requires_grad_()


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_the_penalty_of_a_linear_discriminator_is_that_of_its_weights(target):
    """Two logits with gradients 0.3 and 0.1 at each of 48 pixels: their sum has the gradient 0.4, and 0.8 over images in [0, 1]."""
    real = images()
    logits = torch.stack([0.3 * real.flatten(1).sum(1), 0.1 * real.flatten(1).sum(1)], dim=1)
    expected = (0.8 * 48**0.5 - target) ** 2
    assert GradientPenaltyLoss(target, every=1)(logits, real).item() == pytest.approx(expected, rel=1e-6)


def test_the_penalty_is_computed_for_each_image():
    real = images()
    logits = (torch.tensor([1.0, 3.0], dtype=torch.double) * real.flatten(1).sum(1))[:, None]
    expected = ((2 * 48**0.5 - 1) ** 2 + (6 * 48**0.5 - 1) ** 2) / 2
    assert GradientPenaltyLoss(1.0, every=1)(logits, real).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_its_gradient_is_that_of_finite_differences(target):
    weight = torch.randn(5, 48, generator=torch.Generator().manual_seed(1), dtype=torch.double).mul_(0.3).requires_grad_()

    def penalty(weight: torch.Tensor) -> torch.Tensor:
        real = images()
        return GradientPenaltyLoss(target, every=1)(torch.tanh(F.linear(real.flatten(1), weight)), real)

    (gradient,) = torch.autograd.grad(penalty(weight), weight)
    step = torch.randn(5, 48, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    numeric = (penalty(weight + 1e-2 * step) - penalty(weight - 1e-2 * step)) / 2e-2
    assert (gradient * step).sum().item() == pytest.approx(numeric.item(), rel=2e-2)


def test_a_flat_discriminator_has_a_finite_gradient():
    weight = torch.zeros(1, 48, dtype=torch.double, requires_grad=True)
    real = images()
    GradientPenaltyLoss(0.0, every=1)(F.linear(real.flatten(1), weight), real).backward()
    assert torch.isfinite(weight.grad).all()


def test_the_interval_counts_updates_from_one():
    assert [update for update in range(1, 10) if GradientPenaltyLoss(0.0, every=4).needs_image_grad(update)] == [4, 8]


def test_a_penalty_that_is_not_due_is_left_out_although_another_loss_needs_the_gradient_of_the_images():
    real = images()
    logits = F.linear(real.flatten(1), torch.ones(1, 48, dtype=torch.double))
    loss = GradientPenaltyLoss(0.0, every=4)
    assert [list(loss.discriminator_terms(logits, logits, real, update)) for update in (3, 4)] == [[], ["gradient_penalty"]]


@pytest.mark.parametrize(("target", "every", "message"), [(-1.0, 1, r"target=-1\.0"), (0.0, 0, "every=0")])
def test_a_wrong_setting_is_refused_with_its_key(target, every, message):
    with pytest.raises(ValueError, match=rf"loss\.adversarial\.gradient_penalty\.{message}"):
        GradientPenaltyLoss(target, every)
