"""The identity of data follows the bytes of files, and unchanged files are read once."""

import os

import numpy as np
import pytest
from PIL import Image

from experiments.data import contents as module
from experiments.data.contents import contents
from experiments.data.files import image_files


@pytest.fixture
def reads(tmp_path, monkeypatch):
    """Names of the files that are read, in a cache of the test's own; changes of a moment ago count as old."""
    names = []
    original = module.content_of
    monkeypatch.setattr(module, "content_of", lambda path: names.append(path.name) or original(path))
    monkeypatch.setattr(module, "RECENT", -1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return names


def write(path, seed, size=(20, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def of(root):
    return contents(root, dict(image_files(root)))


def test_other_bytes_of_the_same_size_are_another_content_whatever_their_time(tmp_path, reads):
    file = tmp_path / "data/a.bmp"
    write(file, 0)
    os.utime(file, ns=(10**18, 10**18))
    first, size = of(tmp_path / "data"), file.stat().st_size
    write(file, 1)
    os.utime(file, ns=(10**18, 10**18))
    assert file.stat().st_size == size
    assert of(tmp_path / "data")["a.bmp"].digest != first["a.bmp"].digest


@pytest.mark.parametrize("place", [0, 0.25, 0.5, 0.999])
def test_a_changed_block_of_a_large_file_changes_its_content(tmp_path, reads, place):
    file = tmp_path / "data/a.bmp"
    write(file, 0, (512, 512))
    first = of(tmp_path / "data")
    data = bytearray(file.read_bytes())
    start = int(place * len(data))
    data[start : start + len(data) // 10] = bytes(len(data[start : start + len(data) // 10]))
    file.write_bytes(data)
    assert of(tmp_path / "data")["a.bmp"].digest != first["a.bmp"].digest


def test_the_time_and_place_of_a_file_do_not_enter_its_content(tmp_path, reads):
    for name in ("one", "two"):
        write(tmp_path / name / "a.png", 0)
    os.utime(tmp_path / "two/a.png", (1, 1))
    assert of(tmp_path / "one") == of(tmp_path / "two")


def test_an_unchanged_folder_is_read_once_and_a_changed_file_alone_again(tmp_path, reads):
    for number in range(3):
        write(tmp_path / f"data/{number}.png", number)
    first = of(tmp_path / "data")
    assert sorted(reads) == ["0.png", "1.png", "2.png"]
    assert of(tmp_path / "data") == first
    write(tmp_path / "data/1.png", 7)
    changed = of(tmp_path / "data")
    assert reads[3:] == ["1.png"]
    assert [changed[name] == first[name] for name in first] == [name != "1.png" for name in first]


def test_a_file_of_this_moment_is_read_again(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(module, "RECENT", 10**12)
    write(tmp_path / "data/a.png", 0)
    assert of(tmp_path / "data") == of(tmp_path / "data")
    assert reads == ["a.png", "a.png"]


@pytest.mark.parametrize("damage", ["", "[]", '{"a.png": 1}', "\x00"])
def test_a_damaged_cache_is_computed_again(tmp_path, reads, damage):
    write(tmp_path / "data/a.png", 0)
    first = of(tmp_path / "data")
    (store,) = (tmp_path / "cache").rglob("*.json")
    store.write_text(damage)
    assert of(tmp_path / "data") == first
    assert len(reads) == 2


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, reads, monkeypatch):
    write(tmp_path / "data/a.png", 0)
    first = of(tmp_path / "data")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "data/a.png"))  # a file in place of the folder
    assert of(tmp_path / "data") == first
    assert len(reads) == 2


def test_the_content_has_the_size_of_the_image_and_none_of_a_damaged_one(tmp_path, reads):
    write(tmp_path / "data/a.png", 0, (20, 16))
    (tmp_path / "data/b.png").write_text("text")
    found = of(tmp_path / "data")
    assert found["a.png"][1:] == ("PNG", 20, 16)
    assert found["b.png"][1:] == ("", 0, 0)
