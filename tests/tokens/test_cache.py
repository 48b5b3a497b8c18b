"""A cache is a safetensors file of its own kind: whole or not there, readable in pieces, refused in one sentence if it is anything else."""

import json
import multiprocessing
import os

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from experiments.config.errors import DataError, RunFolderError
from experiments.tokens.cache import CacheWriter, TokenCache, dtype_for, read_header
from experiments.tokens.header import DATA_DIGEST, HEADER_DIGEST, header_digest
from tests.tokens.made_caches import ABOUT, TOKENS, write_arrays, write_cache

ONE_TOKEN = {**ABOUT, "tokens": {**TOKENS, "groups": 1, "num_tokens": 1, "grid": [1, 1]}}
ROWS = {"train/labels": ("I32", ()), "train/indices": ("U8", (2, 4, 2))}


def test_the_safetensors_library_reads_our_file(tmp_path):
    """No wider array follows an odd number of narrow indices."""
    arrays = write_cache(tmp_path / "cache.safetensors", images=3, views=1, tokens=1, groups=1, about=ONE_TOKEN)
    with safe_open(tmp_path / "cache.safetensors", "np") as file:
        assert sorted(file.keys()) == sorted(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
        assert json.loads(file.metadata()["tessera"])["tokens"]["codebook_size"] == 16


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int64])
def test_we_read_a_file_that_the_safetensors_library_wrote(tmp_path, dtype):
    indices = np.arange(48).reshape(2, 3, 4, 2).astype(dtype)
    arrays = {"train/labels": np.array([4, -1], np.int32), "train/indices": indices}
    save_file(arrays, tmp_path / "theirs.safetensors", {"tessera": json.dumps({"version": 1, **ABOUT})})
    cache = TokenCache(tmp_path / "theirs.safetensors")
    for name, array in arrays.items():
        np.testing.assert_array_equal(cache.array(name), array)
        assert cache.array(name).dtype == array.dtype
    assert not cache.array("train/indices").flags.writeable


def test_arrays_are_aligned_for_any_lengths(tmp_path):
    write_cache(tmp_path / "cache.safetensors", images=3, views=1, tokens=1, groups=1, about=ONE_TOKEN)
    for array in read_header(tmp_path / "cache.safetensors").arrays.values():
        assert array.offset % {"I32": 4, "U8": 1}[array.dtype] == 0


@pytest.mark.parametrize(("size", "dtype"), [(256, "U8"), (257, "U16"), (65536, "U16"), (65537, "U32"), (2**32, "U32"), (2**32 + 1, "I64")])
def test_indices_take_the_narrowest_type_that_holds_them(size, dtype):
    assert dtype_for(size) == dtype


def test_an_empty_split_reads_as_no_rows(tmp_path):
    write_cache(tmp_path / "cache.safetensors", val_images=0)
    assert TokenCache(tmp_path / "cache.safetensors").array("val/indices").shape == (0, 1, 4, 2)


def killed(path):
    with CacheWriter(path, ROWS) as writer:
        writer.append("train/labels", np.zeros(5))
        os._exit(9)


def test_a_killed_writer_leaves_no_file_and_the_next_one_starts_from_scratch(tmp_path):
    path = tmp_path / "cache.safetensors"
    process = multiprocessing.get_context("fork").Process(target=killed, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert not path.exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["cache.safetensors.parts"]
    with CacheWriter(path, ROWS) as writer:
        writer.append("train/labels", np.array([7]))
        writer.append("train/indices", np.zeros((1, 2, 4, 2)))
        writer.finish(ABOUT)
    assert TokenCache(path).array("train/labels").tolist() == [7]
    assert [entry.name for entry in tmp_path.iterdir()] == ["cache.safetensors"]


def test_an_error_leaves_neither_file_nor_parts(tmp_path):
    with pytest.raises(ValueError, match="a word"):
        with CacheWriter(tmp_path / "cache.safetensors", ROWS) as writer:
            writer.append("train/labels", np.array(["a word"]))
    assert list(tmp_path.iterdir()) == []


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / "cache.safetensors"
    with CacheWriter(path, ROWS) as writer:
        with pytest.raises(RunFolderError, match="in use by process"), CacheWriter(path, ROWS):
            pass
        writer.append("train/labels", np.array([1]))
        writer.append("train/indices", np.zeros((1, 2, 4, 2)))
        writer.finish(ABOUT)
    assert TokenCache(path).array("train/labels").tolist() == [1]


def damaged(path, kind):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    replacement = {
        "truncated": content[:-1],
        "longer": content + b"0",
        "cut in its header": content[: 8 + length // 2],
        "empty": b"",
        "foreign": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "a wrong shape": content.replace(b"[5, 3, 4, 2]", b"[6, 3, 4, 2]", 1),
        "no JSON object": (2).to_bytes(8, "little") + b"[]",
    }[kind]
    assert replacement != content
    path.write_bytes(replacement)


@pytest.mark.parametrize("kind", ["truncated", "longer", "cut in its header", "empty", "foreign", "a wrong shape", "no JSON object"])
def test_a_damaged_or_foreign_file_is_one_clear_message(tmp_path, kind):
    path = tmp_path / "cache.safetensors"
    write_cache(path)
    damaged(path, kind)
    with pytest.raises(DataError, match=r"expected a token cache, .*bytes") as caught:
        read_header(path)
    assert (caught.value.path, caught.value.key) == (path, "data.file")


def test_somebody_elses_safetensors_file_and_an_absent_one_are_refused(tmp_path):
    save_file({"weight": np.zeros(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(DataError, match="expected a token cache"):
        read_header(tmp_path / "weights.safetensors")
    with pytest.raises(DataError, match="No such file") as caught:
        read_header(tmp_path / "absent", key="inspect")
    assert (caught.value.path, caught.value.key) == (tmp_path / "absent", "inspect")
    with pytest.raises(DataError, match="it is a folder"):
        read_header(tmp_path)


def test_another_version_is_refused(tmp_path):
    save_file({"train/labels": np.zeros(3, np.int32)}, tmp_path / "cache", {"tessera": json.dumps({**ABOUT, "version": 3})})
    with pytest.raises(DataError, match="it has version 3, this code reads versions 1 to 2"):
        read_header(tmp_path / "cache")


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"tokenizer": {"folder": "elsewhere", "digest": "abc", "weights": "raw"}}, True),
        ({"code_version": "2"}, True),
        ({"tokenizer": {"folder": "runs/a", "digest": "other", "weights": "ema"}}, False),
        ({"data": {"name": "digits", "config": {}, "fingerprint": "other"}}, False),
        ({"precision": "bf16"}, False),
        ({"views": {"crops": "ten_crop"}}, False),
    ],
)
def test_a_fingerprint_is_of_the_content_not_of_the_place(tmp_path, changes, same):
    write_cache(tmp_path / "one")
    write_cache(tmp_path / "other", about={**ABOUT, **changes})
    assert (read_header(tmp_path / "one").fingerprint == read_header(tmp_path / "other").fingerprint) is same


def rewritten(path, target, change):
    """A cache with another header, whose digests are computed again: as somebody with bad intent would write it."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop("__metadata__")
    about = json.loads(metadata["tessera"])
    change(header, about)
    described = json.dumps(about)
    metadata |= {"tessera": described, HEADER_DIGEST: header_digest(described, metadata[DATA_DIGEST], header)}
    text = json.dumps({"__metadata__": metadata, **header}).encode()
    target.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    return target


def set_to(place, *keys):
    *path, last, value = keys

    def change(arrays, about):
        node = {"arrays": arrays, "about": about}[place]
        for key in path:
            node = node[key]
        node[last] = value

    return change


def swapped_below_zero(arrays, about):
    """As many bytes as before, but from inside the header."""
    begin, end = arrays["train/indices"]["data_offsets"]
    arrays["train/indices"]["data_offsets"] = [-8, end - begin - 8]


@pytest.mark.parametrize(
    "change",
    [
        swapped_below_zero,
        set_to("arrays", "val/labels", "data_offsets", [0, 8]),
        set_to("arrays", "train/indices", "dtype", "F32"),
        set_to("arrays", "train/indices", "dtype", ["U8"]),
        set_to("arrays", "train/indices", "shape", [5, 3, 4, -2]),
        set_to("arrays", "train/indices", "shape", [5, 3, 2, 4]),
        set_to("arrays", "train/indices", "shape", [5.0, 3, 4, 2]),
        set_to("arrays", "train/indices", 5),
        set_to("about", "tokens", "grid", [1, 2]),
        set_to("about", "tokens", "grid", [-2, -2]),
        set_to("about", "tokens", "codebook_size", 257),
        set_to("about", "tokens", "codebook_size", True),
        set_to("about", "tokens", "groups", 1),
        set_to("about", "tokens", "kind", "spiral"),
        set_to("about", "tokens", None),
        set_to("about", "classes", ["ant"]),
        set_to("about", "image_size", "16"),
        set_to("about", "tokenizer", {"folder": "runs/a"}),
        set_to("about", "data", "fingerprint", 5),
        set_to("about", "splits", {}),
        set_to("about", "views", {"kept": [2, 4]}),
    ],
)
def test_a_header_that_contradicts_itself_or_the_arrays_is_refused(tmp_path, change):
    write_cache(tmp_path / "cache")
    path = rewritten(tmp_path / "cache", tmp_path / "other", change)
    with pytest.raises(DataError) as caught:
        TokenCache(path)
    assert (caught.value.path, caught.value.key) == (path, "data.file")
    assert "\n" not in str(caught.value)


def test_one_changed_index_is_noticed_and_changes_the_fingerprint(tmp_path):
    write_cache(tmp_path / "whole")
    header = read_header(tmp_path / "whole")
    content = bytearray((tmp_path / "whole").read_bytes())
    content[header.arrays["train/indices"].offset + 7] ^= 1
    (tmp_path / "damaged").write_bytes(content)
    with pytest.raises(DataError) as caught:
        TokenCache(tmp_path / "damaged")
    assert caught.value.path == tmp_path / "damaged"
    arrays = {name: array.copy() for name, array in ((name, TokenCache(tmp_path / "whole").array(name)) for name in header.arrays)}
    arrays["train/indices"][0, 0, 0, 0] ^= 1
    write_arrays(tmp_path / "other", arrays, ABOUT)
    assert read_header(tmp_path / "other").fingerprint != header.fingerprint


def test_a_file_of_an_earlier_version_is_read_and_its_fingerprint_is_of_its_arrays(tmp_path, caplog):
    arrays = write_cache(tmp_path / "new")
    metadata = {"tessera": json.dumps({"version": 2, **ABOUT})}
    save_file(arrays, tmp_path / "old", metadata)
    arrays["val/indices"][0, 0, 0, 0] ^= 1
    save_file(arrays, tmp_path / "other", metadata)
    assert TokenCache(tmp_path / "old").header.digest is None
    assert any("no checksum" in message for message in caplog.messages)
    assert read_header(tmp_path / "old").fingerprint != read_header(tmp_path / "other").fingerprint


def test_a_pipe_in_place_of_a_cache_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError):
        read_header(tmp_path / "pipe")


def test_a_fingerprint_depends_on_the_number_of_images(tmp_path):
    write_cache(tmp_path / "one")
    write_cache(tmp_path / "other", images=6)
    assert read_header(tmp_path / "one").fingerprint != read_header(tmp_path / "other").fingerprint
