"""The embedded digits: right pixels, right labels, a stratified fixed split."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from experiments.config.errors import ConfigError
from experiments.data.digits import Digits
from experiments.data.source import Draw


def test_pixels_and_labels_are_those_of_scikit_learn():
    data, reference = Digits(8), load_digits()
    for example in (data.train[Draw(2, 17)], data.val[11]):
        row = int(example.key.removeprefix("digit"))
        assert example.label == reference.target[row]
        expected = np.round(reference.images[row] * 255 / 16)
        assert np.array_equal(example.image.numpy(), np.stack([expected] * 3))


def test_the_split_is_disjoint_complete_and_has_a_fifth_of_each_digit():
    data = Digits(8)
    train = [data.train[Draw(0, index)] for index in range(len(data.train))]
    val = [data.val[index] for index in range(len(data.val))]
    assert {example.key for example in train + val} == {f"digit{row}" for row in range(1797)}
    assert len(train) + len(val) == 1797
    for digit in range(10):
        of_digit = sum(example.label == digit for example in val), sum(example.label == digit for example in train)
        assert of_digit[0] / sum(of_digit) == pytest.approx(0.2, abs=0.005)


def test_digits_are_enlarged_to_the_image_size_without_moving():
    large, small = Digits(40).val[0].image, Digits(8).val[0].image
    assert large.shape == (3, 40, 40)
    blocks = large.float().unfold(1, 5, 5).unfold(2, 5, 5).mean(dim=(-1, -2))
    assert torch.corrcoef(torch.stack([blocks.flatten(), small.float().flatten()]))[0, 1] > 0.99


def test_classes_are_named_and_small_sizes_refused():
    assert Digits(16).classes == ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
    assert Digits(16).fingerprint() != Digits(32).fingerprint()
    with pytest.raises(ConfigError) as caught:
        Digits(7)
    assert (caught.value.key, caught.value.value) == ("image_size", 7)
