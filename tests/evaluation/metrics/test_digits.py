"""The judge of digits: what it makes of real ones, of copies and of noise."""

import numpy as np
import pytest
import torch

from experiments.data.digits import Digits
from experiments.data.photos import Photos
from experiments.evaluation.metrics.digits import DigitsJudge, digits_judge, moved, shrink
from experiments.evaluation.sample_metrics import SampleJudges


@pytest.fixture(scope="module")
def source():
    return Digits(16)


@pytest.fixture(scope="module")
def judge(source):
    return digits_judge(source)


def real(images, rows):
    examples = [images[row] for row in rows]
    return torch.stack([example.image for example in examples]) / 255, torch.tensor([example.label for example in examples])


def judged(judge, images, labels):
    metrics = judge.metrics(16, "ema", seed=3, guidance=2.0)
    for part in zip(images.split(50), labels.split(50), strict=True):
        metrics.update(*part)
    return metrics.compute()


def test_the_classifier_knows_digits_that_it_never_saw(judge, source):
    images, labels = real(source.val, range(len(source.val)))
    assert judge.accuracy_on_held_out >= 0.97
    assert judge.class_accuracy(images, labels) == judge.accuracy_on_held_out
    assert judge.predict(images).dtype == torch.int64
    assert judge.class_accuracy(images, (labels + 1) % 10) < 0.02


def test_fitting_again_gives_the_same_classifier(judge, source):
    images, _ = real(source.val, range(40))
    train, labels = judge.train[:150], source.train.labels[source.train.rows[:150]]
    one, other = (DigitsJudge(train, labels, train, labels, "", "") for _ in range(2))
    assert torch.equal(one.features(images), other.features(images))


def test_features_are_the_hidden_layer_that_the_classes_are_read_from(judge, source):
    images, _ = real(source.val, range(40))
    features = judge.features(images).numpy()
    scores = features @ judge.classifier.coefs_[1] + judge.classifier.intercepts_[1]
    assert features.shape == (40, 64)
    np.testing.assert_array_equal(scores.argmax(1), judge.predict(images))


def test_copies_are_found_and_unseen_digits_are_not(judge, source):
    copies = judged(judge, *real(source.train, range(0, len(source.train), 10))).values
    unseen = judged(judge, *real(source.val, range(len(source.val)))).values
    assert copies["nearest_digit"] == 0
    assert copies["share_copied"] == 1
    assert unseen["share_copied"] <= 0.0113  # at most four of 357: the first percentile
    assert unseen["nearest_digit"] == unseen["nearest_digit_real"] > 0.5
    assert unseen["frechet_digits"] == pytest.approx(0, abs=1e-6)
    assert unseen["frechet_digits_train"] == pytest.approx(unseen["frechet_digits_real"], abs=1e-6)


def test_copies_are_found_through_a_tokenizer_that_blurs(judge, source):
    def blur(images):
        return torch.nn.functional.avg_pool2d(images, 5, stride=1, padding=2)

    copies, labels = real(source.train, range(0, len(source.train), 10))
    assert judged(judge, blur(copies), labels).values["share_copied"] < 0.9
    found = judged(digits_judge(source, blur), blur(copies), labels)
    assert (found.values["share_copied"], found.values["nearest_digit"]) == (1, pytest.approx(0, abs=1e-6))
    unseen, labels = real(source.val, range(len(source.val)))
    assert judged(digits_judge(source, blur), blur(unseen), labels).values["share_copied"] <= 0.0113
    assert found.cards["share_copied"]["reference"].endswith("training digits, decoded")
    assert found.cards["frechet_digits"]["reference"].endswith("held-out digits")


def test_noise_is_far_and_wrong_classes_are_counted(judge, source):
    noise = judged(judge, torch.rand(100, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(100) % 10).values
    assert noise["frechet_digits"] > 10 * noise["frechet_digits_real"]
    assert noise["nearest_digit"] > 2 * noise["nearest_digit_real"]
    assert noise["class_accuracy"] < 0.3
    images, labels = real(source.val, range(100))
    half_wrong = torch.where(torch.arange(100) < 50, labels, (labels + 1) % 10)
    right = (judge.predict(images)[:50] == labels[:50]).sum() + (judge.predict(images)[50:] == half_wrong[50:]).sum()
    assert judged(judge, images, half_wrong).values["class_accuracy"] == pytest.approx(float(right) / 100)


def test_distances_are_those_to_the_nearest_of_all_training_digits(judge, source):
    images, _ = real(source.val, range(5))
    pixels = images.double().mean(1).unflatten(1, (8, 2)).unflatten(3, (8, 2)).mean((2, 4)).flatten(1).numpy()
    expected = np.sqrt(np.square(pixels[:, None] - judge.train[None]).sum(-1)).min(1)
    np.testing.assert_allclose(judge.nearest_neighbours(images), expected, rtol=1e-5)
    assert len(judge.train) == len(source.train)


def test_cards_tell_generated_from_real_and_how_good_the_classifier_is(judge, source):
    found = judged(judge, *real(source.val, range(60)))
    assert set(found.cards) == set(found.values)
    accuracy, yardstick = found.cards["class_accuracy"], found.cards["class_accuracy_real"]
    assert (accuracy["n"], accuracy["guidance"], accuracy["seed"], accuracy["subject"]) == (60, 2.0, 3, "ema")
    assert (yardstick["n"], yardstick["guidance"], yardstick["subject"]) == (len(source.val), None, "held-out digits")
    assert f"{judge.accuracy_on_held_out:.2%}" in accuracy["weights"]
    assert "singular" in found.cards["frechet_digits"]["aggregate"]
    assert found.cards["nearest_digit"]["network"] is None


def test_one_sample_is_too_few(judge):
    found = judged(judge, torch.zeros(1, 3, 16, 16), torch.zeros(1, dtype=torch.long))
    assert found.values == {}
    assert "1 were generated" in found.skipped["class_accuracy"].reason


def test_shrinking_takes_the_mean_of_areas_and_channels():
    images = torch.zeros(1, 3, 16, 16)
    images[0, :, 2:4, 0:2] = torch.tensor([0.3, 0.6, 0.9])[:, None, None]
    assert shrink(images).reshape(8, 8)[1, 0] == pytest.approx(0.6)
    assert shrink(images).sum() == pytest.approx(0.6)


def test_moving_by_half_a_pixel_shares_the_ink_with_each_side():
    dot = np.zeros((1, 8, 8))
    dot[0, 3, 4] = 1
    whole, left, right, up, down = moved(dot.reshape(1, 64)).reshape(5, 8, 8)
    assert whole[3, 4] == 1
    for image, place in ((left, (3, 3)), (right, (3, 5)), (up, (2, 4)), (down, (4, 4))):
        assert image[3, 4] == image[place] == 0.5
        assert image.sum() == 1


def test_photos_have_no_evaluator_of_their_own():
    evaluators = SampleJudges(object.__new__(Photos), None, None, torch.device("cpu"), batch_size=1, workers=0)
    assert evaluators.of_data is None
