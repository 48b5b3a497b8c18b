"""Sizes, positions and value ranges of the pixel operations."""

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.data.transforms import center_crop, normalize, random_crop, random_flip, resize_shorter_side, to_tensor


def coordinate_image(width, height):
    """Image whose pixel (x, y) has the color (x, y, 0)."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8))


def numbered(width, height):
    return to_tensor(coordinate_image(width, height))


@pytest.mark.parametrize(("size", "expected"), [((200, 100), (32, 64)), ((100, 201), (64, 32)), ((10, 30), (96, 32))])
@pytest.mark.parametrize("resampling", ["bilinear", "bicubic", "box_bicubic"])
def test_the_shorter_side_gets_the_size_and_the_longer_one_follows(size, expected, resampling):
    assert resize_shorter_side(Image.new("RGB", size), 32, resampling).shape == (3, *expected)


@pytest.mark.parametrize("resampling", ["bilinear", "bicubic", "box_bicubic"])
def test_resizing_averages_fine_stripes_and_does_not_pick_one(resampling):
    stripes = np.zeros((128, 128, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    small = resize_shorter_side(Image.fromarray(stripes), 16, resampling).int()
    assert (small[:, :, 2:-2] - 100).abs().max() <= 3


@pytest.mark.parametrize("resampling", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [20, 50, 90])
def test_resized_pixels_are_those_of_pillow(resampling, size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    expected = np.asarray(image.resize((size * 80 // 60, size), filters[resampling])).astype(int)
    difference = np.abs(resize_shorter_side(image, size, resampling).permute(1, 2, 0).numpy() - expected)
    assert difference.max() <= 2
    assert difference.mean() < 0.05


def test_an_image_of_the_right_size_is_unchanged():
    image = coordinate_image(32, 48)
    for resampling in ("bilinear", "bicubic", "box_bicubic"):
        assert torch.equal(resize_shorter_side(image, 32, resampling), to_tensor(image))


def test_the_center_crop_is_the_middle():
    assert center_crop(numbered(10, 6), 4)[:, 0, 0].tolist() == [3, 1, 0]


def test_random_crops_reach_every_position_and_stay_inside():
    random = np.random.default_rng(0)
    corners = {tuple(random_crop(numbered(6, 5), 4, random)[:, 0, 0].tolist()) for _ in range(100)}
    assert corners == {(x, y, 0) for x in range(3) for y in range(2)}


def test_a_flip_mirrors_left_and_right_about_half_of_the_time():
    random, image = np.random.default_rng(0), numbered(3, 2)
    lefts = [random_flip(image, random)[:, 1, 0].tolist() for _ in range(100)]
    assert {tuple(left) for left in lefts} == {(0, 1, 0), (2, 1, 0)}
    assert 30 < sum(left[0] == 2 for left in lefts) < 70


def test_tensors_have_channels_first():
    tensor = numbered(3, 2)
    assert tensor.dtype == torch.uint8
    assert tensor.tolist() == [[[0, 1, 2], [0, 1, 2]], [[0, 0, 0], [1, 1, 1]], [[0, 0, 0], [0, 0, 0]]]


def test_normalized_bytes_are_between_minus_one_and_one():
    values = normalize(torch.tensor([0, 51, 255], dtype=torch.uint8))
    torch.testing.assert_close(values, torch.tensor([-1.0, -0.6, 1.0]))
