import pytest
import torch

from tokenizer.losses.lecam import LeCAMLoss

GO, STOP = torch.tensor(0.0), torch.tensor(1.0)


def test_the_means_are_updated_before_they_are_used():
    loss = LeCAMLoss(decay=0.9)
    value = loss(torch.tensor([[1.0, 3.0]]), torch.tensor([[-4.0], [0.0]]))
    # Means 0.1 * 2 and 0.1 * -2; real logits are 1.2 and 3.2 above the fakes' mean, fakes 4.2 and 0.2 below the reals'.
    assert value.item() == pytest.approx((1.2**2 + 3.2**2) / 2 + (4.2**2 + 0.2**2) / 2)


def test_logits_on_the_right_side_of_the_means_cost_nothing():
    loss = LeCAMLoss(decay=0.9)
    loss.means.copy_(torch.tensor([1.0, 3.0]))
    assert loss(torch.full((2, 3), -1.0), torch.full((2, 3), 5.0)).item() == 0


def test_the_stored_means_are_a_running_mean_over_updates():
    loss, expected = LeCAMLoss(decay=0.75), [0.0, 0.0]
    for step in range(3):
        real, fake = torch.randn(4, 5, generator=torch.Generator().manual_seed(step)), torch.full((4, 5), float(step))
        loss(real, fake)
        loss.end_update(GO)
        expected = [0.75 * old + 0.25 * new for old, new in zip(expected, (real.mean().item(), step), strict=True)]
    assert loss.means.tolist() == pytest.approx(expected)
    assert list(loss.state_dict()) == ["means"]


def test_a_skipped_step_does_not_change_the_means():
    loss = LeCAMLoss(decay=0.5)
    loss(torch.ones(1, 1), torch.ones(1, 1))
    loss.end_update(GO)
    loss(torch.tensor([[float("nan")]]), torch.tensor([[float("inf")]]))
    loss.end_update(STOP)
    assert loss.means.tolist() == [0.5, 0.5]
    loss(torch.ones(1, 1), torch.ones(1, 1))
    loss.end_update(GO)
    assert loss.means.tolist() == [0.75, 0.75]


def test_parts_of_a_batch_update_the_means_like_the_whole():
    whole, parts = LeCAMLoss(decay=0.9), LeCAMLoss(decay=0.9)
    real, fake = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0)).unbind()
    whole(real, fake)
    for part in (slice(0, 3), slice(3, 6)):
        parts(real[part], fake[part])
    for loss in (whole, parts):
        loss.end_update(GO)
    torch.testing.assert_close(parts.means, whole.means)


def test_the_gradient_reaches_the_logits_and_treats_the_means_as_constants():
    loss = LeCAMLoss(decay=0.5)
    real, fake = torch.tensor([[2.0]], requires_grad=True), torch.tensor([[-2.0]], requires_grad=True)
    loss(real, fake).backward()  # (2 - -1)^2 + (1 - -2)^2
    assert real.grad.item() == pytest.approx(6.0)
    assert fake.grad.item() == pytest.approx(-6.0)


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=rf"loss\.adversarial\.lecam\.decay={decay}"):
        LeCAMLoss(decay)
