import math

import pytest
import torch

from tokenizer.losses.adversarial import PairedAdversarialLoss

FAKE = [[1.0, -3.0], [0.5, 2.5]]
REAL = [[2.0, 0.0], [-1.0, 0.5]]


def softplus(value: float) -> float:
    return math.log(1 + math.exp(value))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def flat(rows: list[list[float]]) -> list[float]:
    return [value for row in rows for value in row]


GENERATOR = {
    "hinge": -mean(flat(FAKE)),
    "vanilla": mean([softplus(-value) for value in flat(FAKE)]),
    "non_saturating": mean([softplus(-mean(row)) for row in FAKE]),
}
DISCRIMINATOR = {
    "hinge": (mean([max(0, 1 - value) for value in flat(REAL)]) + mean([max(0, 1 + value) for value in flat(FAKE)])) / 2,
    "vanilla": (mean([softplus(-value) for value in flat(REAL)]) + mean([softplus(value) for value in flat(FAKE)])) / 2,
    "non_saturating": (mean([softplus(-mean(row)) for row in REAL]) + mean([softplus(mean(row)) for row in FAKE])) / 2,
}


@pytest.mark.parametrize("generator", GENERATOR)
@pytest.mark.parametrize("discriminator", DISCRIMINATOR)
def test_any_pair_of_forms_gives_the_formula_of_each(generator, discriminator):
    loss = PairedAdversarialLoss(generator, discriminator)
    (name, value), *others = loss.generator_terms(torch.tensor(FAKE)).items()
    assert (name, others) == ("adversarial", [])
    assert value.item() == pytest.approx(GENERATOR[generator], rel=1e-5)
    (name, value), *others = loss.discriminator_terms(torch.tensor(REAL), torch.tensor(FAKE)).items()
    assert (name, others) == ("discriminator", [])
    assert value.item() == pytest.approx(DISCRIMINATOR[discriminator], rel=1e-5)


def test_the_hinge_discriminator_of_a_hand_made_case():
    terms = PairedAdversarialLoss("hinge", "hinge").discriminator_terms(torch.tensor([[0.0, 3.0]]), torch.tensor([[-2.0, 1.0]]))
    assert terms["discriminator"].item() == (mean([1.0, 0.0]) + mean([0.0, 2.0])) / 2


@pytest.mark.parametrize("form", GENERATOR)
def test_generator_and_discriminator_move_the_logits_in_opposite_directions(form):
    loss = PairedAdversarialLoss(form, form)
    real, fake = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    loss.generator_terms(fake)["adversarial"].backward()
    assert (fake.grad < 0).all()  # descent raises the logits of fakes
    fake.grad = None
    loss.discriminator_terms(real, fake)["discriminator"].backward()
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()


@pytest.mark.parametrize("form", GENERATOR)
def test_huge_logits_stay_finite(form):
    loss, logits = PairedAdversarialLoss(form, form), torch.full((1, 2), 1e4)
    for term in (loss.generator_terms(-logits)["adversarial"], loss.discriminator_terms(-logits, logits)["discriminator"]):
        assert term.item() == pytest.approx(1e4, rel=1e-3)


def test_an_unknown_form_is_refused():
    with pytest.raises(
        ValueError, match=r"loss\.adversarial\.gan\.discriminator=wasserstein, expected one of hinge, vanilla, non_saturating"
    ):
        PairedAdversarialLoss("hinge", "wasserstein")
