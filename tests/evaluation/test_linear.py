"""Linear probes on made features, beside scikit-learn's logistic regression."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from experiments.evaluation.linear import LinearProbe, ProbeSettings, linear_accuracy

SETTINGS = ProbeSettings(learning_rate=0.1, batch_size=64, epochs=90, warmup_epochs=10, momentum=0.9, trust=0.1, seed=0)
CLASSES = 5


def made(spread: float, count: int = 600, views: int = 2):
    """Clouds around five centers: features (n, views, 8) and labels, cut in two halves. The channels differ a lot in scale and place."""
    random = torch.Generator().manual_seed(0)
    centers = torch.randn(CLASSES, 8, generator=random)
    labels = torch.arange(count) % CLASSES
    features = centers[labels][:, None] + spread * torch.randn(count, views, 8, generator=random)
    features = features * torch.logspace(-2, 2, 8) + 50
    half = count // 2
    return (features[:half], labels[:half]), (features[half:, 0], labels[half:])


@pytest.mark.parametrize(("spread", "lowest", "highest"), [(0.1, 1.0, 1.0), (1.0, 0.6, 0.95)])
def test_the_accuracy_is_that_of_logistic_regression(spread, lowest, highest):
    train, val = made(spread)
    rows = train[0].flatten(0, 1)
    fitted = LogisticRegression().fit((rows - rows.mean(0)) / rows.std(0), train[1].repeat_interleave(2))
    expected = fitted.score((val[0] - rows.mean(0)) / rows.std(0), val[1])
    assert lowest <= expected <= highest
    assert linear_accuracy(train, val, CLASSES, SETTINGS) == pytest.approx(expected, abs=0.03)


def test_features_without_information_give_chance():
    random = torch.Generator().manual_seed(1)
    labels = torch.arange(500) % CLASSES
    train, val = (torch.randn(500, 1, 8, generator=random), labels), (torch.randn(500, 8, generator=random), labels)
    assert linear_accuracy(train, val, CLASSES, SETTINGS) == pytest.approx(1 / CLASSES, abs=0.07)


def test_the_same_seed_gives_the_same_number_and_the_callers_randomness_is_left_alone():
    train, val = made(1.0)
    before = torch.random.get_rng_state()
    first = linear_accuracy(train, val, CLASSES, SETTINGS)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    assert linear_accuracy(train, val, CLASSES, SETTINGS) == first


def test_the_normalization_has_no_weights_and_the_paper_s_epsilon():
    probe = LinearProbe(8, CLASSES)
    assert [name for name, _ in probe.named_parameters()] == ["head.weight", "head.bias"]
    assert probe.norm.eps == 1e-6
    assert probe.head.weight.std().item() == pytest.approx(0.01, rel=0.4)


def test_one_class_is_refused():
    train, val = made(1.0)
    with pytest.raises(ValueError, match="1 classes"):
        linear_accuracy(train, val, 1, SETTINGS)
