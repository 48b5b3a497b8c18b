"""The embedded photographs: disjoint parts, fixed validation, reproducible cuts."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.config.errors import ConfigError, DataError
from experiments.data.files import located
from experiments.data.photos import HELD_OUT_PHOTOS, TRAINING_PHOTOS, Photos
from experiments.data.source import NO_LABEL, Draw


def photos(image_size=64, seed=0, cuts_per_picture=4, largest_cut=2.0, flip=True):
    return Photos(image_size, seed, cuts_per_picture, largest_cut, flip)


def test_held_out_photos_are_not_in_the_training_set():
    assert {name.rpartition("/")[2] for name in HELD_OUT_PHOTOS} == {"astronaut.png", "china.jpg"}
    assert not set(HELD_OUT_PHOTOS) & set(TRAINING_PHOTOS)
    data = photos()
    trained = {data.train[Draw(0, index)].key.partition("#")[0] for index in range(len(data.train))}
    validated = {data.val[index].key.partition("[")[0] for index in range(len(data.val))}
    assert validated == {"astronaut", "china"}
    assert trained == {name.rpartition("/")[2].partition(".")[0] for name in TRAINING_PHOTOS}


def test_validation_is_the_grid_of_whole_squares():
    data = photos(64)
    assert len(data.val) == (512 // 64) ** 2 + (427 // 64) * (640 // 64)
    assert len({data.val[index].key for index in range(len(data.val))}) == len(data.val)
    place = next(index for index in range(len(data.val)) if data.val[index].key == "astronaut[128,64]")
    expected = np.asarray(Image.open(located("skimage/data/astronaut.png")))[128:192, 64:128]
    assert np.array_equal(data.val[place].image.permute(1, 2, 0), expected)


def test_the_same_draw_gives_the_same_cut_and_other_draws_give_others():
    data, again = photos(), photos()
    example = data.train[Draw(3, 5)]
    data.train[Draw(0, 0)]
    assert torch.equal(example.image, again.train[Draw(3, 5)].image)
    assert example.image.shape == (3, 64, 64)
    assert example.image.dtype == torch.uint8
    assert example.label == NO_LABEL
    assert not torch.equal(example.image, data.train[Draw(4, 5)].image)
    assert not torch.equal(example.image, data.train[Draw(3, 5 + 9)].image)
    assert not torch.equal(example.image, photos(seed=1).train[Draw(3, 5)].image)


def test_cuts_without_resizing_are_windows_of_the_photo():
    example = photos(32, largest_cut=1.0, flip=False).train[Draw(0, 0)]
    photo = np.asarray(Image.open(located(TRAINING_PHOTOS[0])))
    windows = np.lib.stride_tricks.sliding_window_view(photo, (32, 32, 3))[:, :, 0]
    corner = example.image[:, 0, 0].numpy()
    places = np.argwhere((photo[: windows.shape[0], : windows.shape[1]] == corner).all(axis=-1))
    assert any(np.array_equal(windows[y, x], example.image.permute(1, 2, 0)) for y, x in places)


def test_the_fingerprint_depends_on_options_but_not_on_the_seed():
    assert photos().fingerprint() == photos(seed=7).fingerprint()
    assert len({photos().fingerprint(), photos(32).fingerprint(), photos(flip=False).fingerprint()}) == 3


@pytest.mark.parametrize("options", [{"image_size": 0}, {"image_size": 512}, {"cuts_per_picture": 0}, {"largest_cut": 0.5}])
def test_options_out_of_range_are_named(options):
    with pytest.raises(ConfigError) as caught:
        photos(**options)
    assert {caught.value.key.removeprefix("data."): caught.value.value} == options


def test_a_missing_photo_is_one_clear_error():
    for name in ("skimage/data/none.png", "no_such_package/a.png"):
        with pytest.raises(DataError) as caught:
            located(name)
        assert caught.value.path == name


def test_photos_are_located_without_importing_their_packages():
    code = "import sys; from experiments.data.files import located; located('skimage/data/coffee.png'); assert 'skimage' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
