"""Metrics of generated digits: real ones, copies and noise."""

import numpy as np
import pytest
import torch

from experiments.data.digits import Digits
from experiments.data.photos import Photos
from experiments.evaluation.metrics.digits_classifier import DigitsClassifier, digits_classifier, shifted, shrink
from experiments.evaluation.metrics.samples import SampleBatch, SampleMetrics
from experiments.evaluation.results import Skipped
from experiments.evaluation.sample_evaluators import SampleEvaluators


@pytest.fixture(scope="module")
def source():
    return Digits(16)


@pytest.fixture(scope="module")
def classifier(source):
    return digits_classifier(source)


def real(images, rows):
    examples = [images[row] for row in rows]
    return torch.stack([example.image for example in examples]) / 255, torch.tensor([example.label for example in examples])


def evaluated(classifier, images, labels):
    fields = {"subject": "ema", "seed": 3, "guidance": 2.0, "transform": "of Inception"}
    absent = {"inception": Skipped("no file", "inception"), "lite0": Skipped("no package", "lite0")}
    metrics = SampleMetrics(absent, {}, classifier, 16, fields)
    for part in zip(images.split(50), labels.split(50), strict=True):
        metrics.add(SampleBatch(*part, metrics.networks))  # not rounded to 8 bits
    return metrics.compute()


def test_the_classifier_recognizes_digits_that_it_was_not_trained_on(classifier, source):
    images, labels = real(source.val, range(len(source.val)))
    assert classifier.accuracy_on_held_out >= 0.97
    assert evaluated(classifier, images, labels).values["class_accuracy"] == classifier.accuracy_on_held_out
    assert evaluated(classifier, images, (labels + 1) % 10).values["class_accuracy"] < 0.02


def test_fitting_again_gives_the_same_classifier(classifier, source):
    images, _ = real(source.val, range(40))
    train, labels = classifier.train[:150], source.train.labels[source.train.rows[:150]]
    one, other = (DigitsClassifier(train, labels, train, labels, "", "") for _ in range(2))
    assert torch.equal(one.activations(shrink(images)), other.activations(shrink(images)))


def test_features_are_the_hidden_layer_that_the_classes_are_read_from(classifier, source):
    images, _ = real(source.val, range(40))
    features = classifier.activations(shrink(images)).numpy()
    scores = features @ classifier.perceptron.coefs_[1] + classifier.perceptron.intercepts_[1]
    assert features.shape == (40, 64)
    np.testing.assert_array_equal(scores.argmax(1), classifier.predict(shrink(images)))


def test_copies_are_found_and_unseen_digits_are_not(classifier, source):
    copies = evaluated(classifier, *real(source.train, range(0, len(source.train), 10))).values
    unseen = evaluated(classifier, *real(source.val, range(len(source.val)))).values
    assert copies["nearest_digit"] == 0
    assert copies["share_copied"] == 1
    assert unseen["share_copied"] <= 0.0113  # at most four of 357: the first percentile
    assert unseen["nearest_digit"] == unseen["nearest_digit_real"] > 0.5
    assert unseen["frechet_digits"] == pytest.approx(0, abs=1e-6)
    assert unseen["frechet_digits_train"] == pytest.approx(unseen["frechet_digits_real"], abs=1e-6)


def test_copies_are_found_through_a_tokenizer_that_blurs(classifier, source):
    def blur(images):
        return torch.nn.functional.avg_pool2d(images, 5, stride=1, padding=2)

    copies, labels = real(source.train, range(0, len(source.train), 10))
    assert evaluated(classifier, blur(copies), labels).values["share_copied"] < 0.9
    found = evaluated(digits_classifier(source, blur), blur(copies), labels)
    assert (found.values["share_copied"], found.values["nearest_digit"]) == (1, pytest.approx(0, abs=1e-6))
    unseen, labels = real(source.val, range(len(source.val)))
    assert evaluated(digits_classifier(source, blur), blur(unseen), labels).values["share_copied"] <= 0.0113
    assert found.cards["share_copied"]["reference"].endswith("training digits, decoded")
    assert found.cards["frechet_digits"]["reference"].endswith("held-out digits")


def test_noise_is_far_and_wrong_classes_are_counted(classifier, source):
    noise = evaluated(classifier, torch.rand(100, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(100) % 10).values
    assert noise["frechet_digits"] > 10 * noise["frechet_digits_real"]
    assert noise["nearest_digit"] > 2 * noise["nearest_digit_real"]
    assert noise["class_accuracy"] < 0.3
    images, labels = real(source.val, range(100))
    half_wrong = torch.where(torch.arange(100) < 50, labels, (labels + 1) % 10)
    right = (classifier.predict(shrink(images)) == half_wrong.numpy()).sum()
    assert evaluated(classifier, images, half_wrong).values["class_accuracy"] == pytest.approx(float(right) / 100)


def test_distances_are_those_to_the_nearest_of_all_training_digits(classifier, source):
    images, _ = real(source.val, range(5))
    pixels = images.double().mean(1).unflatten(1, (8, 2)).unflatten(3, (8, 2)).mean((2, 4)).flatten(1).numpy()
    expected = np.sqrt(np.square(pixels[:, None] - classifier.train[None]).sum(-1)).min(1)
    np.testing.assert_allclose(classifier.distances(shrink(images)), expected, rtol=1e-5)
    assert len(classifier.train) == len(source.train)


def test_cards_differ_for_generated_and_real_and_have_the_accuracy_of_the_classifier(classifier, source):
    found = evaluated(classifier, *real(source.val, range(60)))
    assert set(found.cards) == set(found.values)
    accuracy, yardstick = found.cards["class_accuracy"], found.cards["class_accuracy_real"]
    assert (accuracy["n"], accuracy["guidance"], accuracy["seed"], accuracy["subject"]) == (60, 2.0, 3, "ema")
    assert (yardstick["n"], yardstick["guidance"], yardstick["subject"]) == (len(source.val), None, "held-out digits")
    assert f"{classifier.accuracy_on_held_out:.2%}" in accuracy["weights"]
    assert "singular" in found.cards["frechet_digits"]["aggregate"]
    assert found.cards["nearest_digit"]["network"] is None


def test_one_sample_is_too_few(classifier):
    found = evaluated(classifier, torch.zeros(1, 3, 16, 16), torch.zeros(1, dtype=torch.long))
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
    whole, left, right, up, down = shifted(dot.reshape(1, 64)).reshape(5, 8, 8)
    assert whole[3, 4] == 1
    for image, place in ((left, (3, 3)), (right, (3, 5)), (up, (2, 4)), (down, (4, 4))):
        assert image[3, 4] == image[place] == 0.5
        assert image.sum() == 1


def test_photos_have_no_evaluator_of_their_own():
    evaluators = SampleEvaluators(object.__new__(Photos), None, None, torch.device("cpu"), batch_size=1, workers=0)
    assert evaluators.classifier is None
