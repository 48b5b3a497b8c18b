"""Unusual image formats are decoded to the colors that a viewer shows; errors name damaged files."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from experiments.config.errors import DataError
from experiments.data import decoding
from experiments.data.decoding import decode

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def pixels(path):
    return np.asarray(decode(path)).astype(int)


def test_exif_orientation_rotates_the_image_upright(tmp_path):
    image = Image.new("RGB", (4, 2), RED)
    image.putpixel((0, 0), BLUE)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees clockwise: the top left corner moves to the top right
    image.save(tmp_path / "a.png", exif=exif)
    oriented = pixels(tmp_path / "a.png")
    assert oriented.shape == (4, 2, 3)
    assert tuple(oriented[0, 1]) == BLUE


def test_an_image_with_damaged_exif_data_is_decoded(tmp_path):
    Image.new("RGB", (4, 2), RED).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert pixels(tmp_path / "a.jpg").shape == (2, 4, 3)


def test_transparent_pixels_are_blended_with_white(tmp_path):
    image = Image.new("RGBA", (3, 1))
    image.putdata([(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 51)])
    image.save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png")[0].tolist() == [[255, 0, 0], [255, 255, 255], [204, 204, 204]]  # 51 / 255 = a fifth of black


def test_gray_with_alpha_is_blended_with_white(tmp_path):
    image = Image.new("LA", (2, 1))
    image.putdata([(100, 255), (100, 0)])
    image.save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png")[0].tolist() == [[100] * 3, [255] * 3]


def test_palette_colors_and_their_transparent_entry_are_looked_up(tmp_path):
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *BLUE, 0, 255, 0])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "a.png", transparency=2)
    assert [tuple(value) for value in pixels(tmp_path / "a.png")[0]] == [RED, BLUE, WHITE]


def test_16_bit_gray_is_scaled_and_not_clipped(tmp_path):
    Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png")[0].tolist() == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


def test_16_bit_gray_of_a_portable_graymap_is_scaled_in_the_same_way(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([128, 128, 255, 255]))
    assert pixels(tmp_path / "a.pgm")[0].tolist() == [[128] * 3, [255] * 3]


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_cmyk_colors_are_converted(tmp_path, name):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / name)  # no cyan, all magenta and yellow: red
    assert np.abs(pixels(tmp_path / name) - np.array(RED)).max() <= 3


def test_one_bit_and_gray_images_become_gray_rgb(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bits.png")
    Image.fromarray(np.array([[7, 200]], dtype=np.uint8)).save(tmp_path / "gray.png")
    assert pixels(tmp_path / "bits.png")[0].tolist() == [[255] * 3, [0] * 3]
    assert pixels(tmp_path / "gray.png")[0].tolist() == [[7] * 3, [200] * 3]


def test_an_animation_is_decoded_to_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (2, 2), color) for color in (RED, BLUE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert tuple(pixels(tmp_path / "a.gif")[0, 0]) == RED


def test_a_file_of_several_jpegs_opens_as_its_first(tmp_path):
    frames = [Image.new("RGB", (16, 16), color) for color in (RED, BLUE)]
    frames[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert np.abs(pixels(tmp_path / "a.jpg") - np.array(RED)).max() <= 3


def test_a_truncated_jpeg_is_refused_and_not_filled_with_gray(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="truncated") as caught:
        decode(tmp_path / "half.jpg")
    assert caught.value.path == tmp_path / "half.jpg"


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "an empty file"), (b"hello", "not an image"), (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image")]
)
def test_files_that_are_no_images_are_named_with_the_reason(tmp_path, content, reason):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=reason):
        decode(tmp_path / "a.jpg")


def test_a_missing_file_is_unreadable(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        decode(tmp_path / "a.jpg")


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, monkeypatch):
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)))
    with pytest.raises(DataError, match="bomb"):
        decode(tmp_path / "bomb.png")
    Image.new("1", (20, 20)).save(tmp_path / "small.png")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 399)
    with pytest.raises(DataError, match="20 x 20 pixels are more than 399"):
        decode(tmp_path / "small.png")


def test_a_strip_that_would_explode_when_resized_is_refused(tmp_path):
    Image.new("RGB", (202, 2)).save(tmp_path / "strip.png")
    with pytest.raises(DataError, match="more than 100 times"):
        decode(tmp_path / "strip.png")


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.array([[0.5]], dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="no defined white"):
        decode(tmp_path / "a.tif")
