"""ADM's npz files: declared sizes are compared before anything is expanded."""

import io
import random
import zipfile
from contextlib import suppress

import numpy as np
import pytest

from experiments.config.errors import DataError
from experiments.data import archives
from experiments.data.archives import check_archive
from experiments.evaluation.metrics import adm_file
from experiments.evaluation.metrics.adm_file import AdmFile


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def entry(shape, descr="|u1", content=b"", **zip_options):
    """An npz file with an array `arr_0` whose header is as given, whatever its content."""
    text = io.BytesIO()
    np.lib.format.write_array_header_1_0(text, {"shape": shape, "descr": descr, "fortran_order": False})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("arr_0.npy", text.getvalue() + content)
    return archive.getvalue()


def written(path, content):
    path.write_bytes(content)
    return path


def refused(call):
    with pytest.raises(DataError) as caught:
        call()
    assert caught.value.key == "reference"
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_small_file_that_expands_beyond_the_bound_is_refused_before_it_is_read(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", arr_0=np.zeros((345, 256, 256, 3), dtype=np.uint8))  # 64.7 MiB
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    error = refused(lambda: AdmFile(tmp_path / "a.npz"))
    assert error.path == tmp_path / "a.npz"
    assert f"{345 * 256 * 256 * 3 + 128:,}" in error.reason


def test_small_arrays_and_photographs_are_within_the_bound(tmp_path):
    np.savez_compressed(tmp_path / "small.npz", arr_0=np.zeros((300, 256, 256, 3), dtype=np.uint8))
    assert check_archive(tmp_path / "small.npz", "reference", "a file") == ["arr_0.npy"]


@pytest.mark.parametrize(("most", "small", "expansion", "fits"), [(5000, 0, 9, False), (9000, 0, 9, True), (9000, 0, 0.5, False)])
def test_the_bounds_are_of_all_entries_together(most, small, expansion, fits, tmp_path, monkeypatch):
    for name, value in (("MOST_BYTES", most), ("SMALL_BYTES", small), ("MOST_EXPANSION", expansion)):
        monkeypatch.setattr(archives, name, value)
    np.savez(tmp_path / "a.npz", arr_0=noise(10, 10, 10, 3), arr_1=noise(3000))
    if fits:
        AdmFile(tmp_path / "a.npz")
    else:
        refused(lambda: AdmFile(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    "shape", [(10**18, 0, 0, 3), (10**18, 1, 1, 3), (2, 10**9, 10**9, 3), (-1, -1, 2, 3), (1, 2, 2, 3), (1, 1, 1, 3, 10**12)]
)
def test_a_shape_that_is_not_that_of_the_bytes_is_refused(shape, tmp_path):
    file = AdmFile(written(tmp_path / "a.npz", entry(shape, content=bytes(6))))
    refused(lambda: list(file.images()))
    refused(lambda: file.array("arr_0"))


def test_images_of_too_many_pixels_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(adm_file, "MAX_PIXELS", 15)
    np.savez(tmp_path / "a.npz", arr_0=noise(2, 4, 4, 3))
    refused(lambda: list(AdmFile(tmp_path / "a.npz").images()))


def test_large_images_are_read_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(adm_file, "BYTES_PER_READ", 47)
    images = noise(3, 4, 4, 3)
    np.savez(tmp_path / "a.npz", arr_0=images)
    batches = list(AdmFile(tmp_path / "a.npz").images())
    assert [len(batch) for batch in batches] == [1, 1, 1]
    np.testing.assert_array_equal(np.concatenate(batches), images.transpose(0, 3, 1, 2))


def test_an_entry_that_expands_beyond_its_declared_size_is_refused(tmp_path):
    whole = entry((1000,), content=bytes(1000))
    size = (1000 + 128).to_bytes(4, "little")
    assert whole.count(size) == 2  # of the entry, and in the directory
    smaller = entry((100,), content=bytes(1000)).replace(size, (100 + 128).to_bytes(4, "little"))
    file = AdmFile(written(tmp_path / "a.npz", smaller))
    assert "CRC" in refused(lambda: file.array("arr_0")).reason


def test_arrays_are_read_in_both_orders(tmp_path):
    values = np.arange(6.0).reshape(2, 3)
    np.savez(tmp_path / "a.npz", mu=values, sigma=np.asfortranarray(values))
    for name in ("mu", "sigma"):
        np.testing.assert_array_equal(AdmFile(tmp_path / "a.npz").array(name), values)


@pytest.mark.parametrize("seed", range(4))
def test_damage_is_one_error_or_changes_no_number(seed, tmp_path):
    images, mean = noise(4, 6, 6, 3), np.arange(5.0)
    np.savez_compressed(tmp_path / "whole.npz", arr_0=images, mu=mean)
    whole, draws = (tmp_path / "whole.npz").read_bytes(), random.Random(seed)
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(draws.choice([1, 1, 4])):
            damaged[draws.randrange(len(damaged))] ^= 1 << draws.randrange(8)
        damaged = damaged[: draws.choice([len(damaged), len(damaged), draws.randrange(len(damaged))])]
        with suppress(DataError):  # no other error
            file = AdmFile(written(tmp_path / "a.npz", bytes(damaged)))
            batches, again = list(file.images()), file.array("mu")
            np.testing.assert_array_equal(np.concatenate(batches), images.transpose(0, 3, 1, 2))
            np.testing.assert_array_equal(again, mean)
