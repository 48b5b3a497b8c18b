"""Large JPEGs are decoded at a reduced size, never below what the crop needs, and the second time from a store."""

import numpy as np
import pytest
from PIL import Image

from experiments.config.errors import DataError
from experiments.data import photographs
from experiments.data.decoding import decode
from experiments.data.photographs import decode_for, scale_of


@pytest.fixture
def photo(tmp_path, monkeypatch):
    """A JPEG of 640 x 480 pixels that counts as large, and stores of the test's own."""
    monkeypatch.setattr(photographs, "LARGE", 640 * 480)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows, columns = np.mgrid[:480, :640]
    pixels = np.stack([rows * 255 // 480, columns * 255 // 640, (rows + columns) * 255 // 1120], -1)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    return tmp_path / "a.jpg"


@pytest.mark.parametrize(
    ("kind", "size", "side", "scale"),
    [
        ("JPEG", (4000, 3000), 375, 8),
        ("JPEG", (4000, 3000), 376, 4),
        ("JPEG", (3000, 4000), 750, 4),
        ("JPEG", (4000, 3000), 1500, 2),
        ("JPEG", (4000, 3000), 1501, 1),
        ("JPEG", (500, 375), 32, 1),
        ("PNG", (4000, 3000), 64, 1),
    ],
)
def test_the_scale_is_the_largest_that_leaves_the_pixels_of_the_crop(kind, size, side, scale):
    assert scale_of(kind, *size, side) == scale


@pytest.mark.parametrize(("side", "size"), [(60, (80, 60)), (61, (160, 120)), (121, (320, 240)), (241, (640, 480))])
def test_a_reduced_photograph_is_the_average_of_its_squares(photo, side, size):
    image = decode_for(photo, side)
    assert image.size == size
    averages = decode(photo).resize(size, Image.Resampling.BOX)
    assert np.abs(np.asarray(image).astype(int) - np.asarray(averages)).max() <= 4


def test_a_photograph_is_rotated_by_its_orientation_also_when_reduced(photo):
    image = Image.open(photo)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(photo, exif=exif)
    assert decode_for(photo, 60).size == (60, 80)


def test_the_second_time_a_photograph_is_not_decoded_and_has_the_same_pixels(photo, monkeypatch):
    first = np.asarray(decode_for(photo, 60))
    monkeypatch.setattr(photographs, "decode", None)
    assert np.array_equal(np.asarray(decode_for(photo, 60)), first)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_store_is_written_again(photo, damage):
    first = np.asarray(decode_for(photo, 60))
    (store,) = photo.parent.rglob("*.npz")
    data = bytearray(store.read_bytes())
    data[len(data) // 2] ^= 1
    store.write_bytes({"truncated": data[: len(data) // 2], "flipped": data, "empty": b""}[damage])
    for _ in range(2):
        assert np.array_equal(np.asarray(decode_for(photo, 60)), first)


def test_another_photograph_of_the_same_name_is_decoded_itself(photo):
    decode_for(photo, 60)
    Image.new("RGB", (640, 480), "red").save(photo, quality=95)
    assert np.asarray(decode_for(photo, 60))[0, 0].tolist() == pytest.approx([255, 0, 0], abs=3)


@pytest.mark.parametrize("place", ["file", "full"])
def test_without_a_store_the_pixels_are_the_same(photo, place, monkeypatch):
    first = np.asarray(decode_for(photo, 60))
    monkeypatch.setenv("XDG_CACHE_HOME", str(photo if place == "file" else photo.parent / "other"))
    monkeypatch.setattr(photographs, "SPARE", 1 << 62)
    assert np.array_equal(np.asarray(decode_for(photo, 60)), first)
    assert not (photo.parent / "other").exists() or not list((photo.parent / "other").rglob("*.npz"))


def test_a_truncated_photograph_is_not_half_decoded(photo):
    photo.write_bytes(photo.read_bytes()[:2000])
    with pytest.raises(DataError):
        decode_for(photo, 60)
