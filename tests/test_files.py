"""Atomic file writes and digests."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.config.errors import fault_of
from tokenizer import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_written_file_replaces_the_old_one_and_missing_folders_are_created(tmp_path):
    path = tmp_path / "a" / "b" / "text"
    files.write_text(path, "old")
    files.write_text(path, "né")
    assert path.read_bytes() == "né".encode()
    assert names(path.parent) == ["text"]


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "text"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        files.write_text(path, "half \ud800")  # a lone surrogate, which UTF-8 cannot encode
    assert path.read_text() == "old"
    assert names(tmp_path) == ["text"]


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_is_an_error_with_the_path_and_the_needed_bytes_and_leaves_nothing(fault, tmp_path, monkeypatch):
    def fail(path, content):
        path.touch()
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(Path, "write_bytes", fail)
    path = tmp_path / "a" / "b" / "text"
    with pytest.raises(OSError, match=os.strerror(fault)) as caught:
        files.write_text(path, "né")
    assert (caught.value.filename, caught.value.needed) == (str(path), 3)
    line = fault_of(caught.value)
    assert f"{path}: {os.strerror(fault)}; it needs 3 bytes; " in line
    assert line.endswith(" bytes are free")
    assert names(tmp_path) == []


def test_a_made_folder_stays_if_something_is_in_it_and_only_those_that_were_made_are_removed(tmp_path):
    (tmp_path / "there").mkdir()
    with files.made_folder(tmp_path / "there" / "made" / "inner"):
        assert (tmp_path / "there" / "made" / "inner").is_dir()
    assert names(tmp_path / "there") == []
    with files.made_folder(tmp_path / "there" / "made" / "inner"):
        (tmp_path / "there" / "made" / "file").touch()
    assert names(tmp_path / "there" / "made") == ["file"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), files.atomic(tmp_path / "text"):
        pass
    assert names(tmp_path) == []


def test_two_writers_of_a_path_have_temporary_files_of_their_own_which_are_hidden(tmp_path):
    path = tmp_path / "text"
    with files.atomic(path) as first:
        first.write_text("first")
        with files.atomic(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
        assert first != second
        assert first.parent == second.parent == tmp_path
        assert first.name.startswith(".text.")
        assert first.name.endswith(".tmp")
    assert path.read_text() == "first"
    assert names(tmp_path) == ["text"]


def test_the_digest_of_a_file_follows_its_content(tmp_path):
    path = tmp_path / "data"
    for content in (b"one", b"three"):
        path.write_bytes(content)
        assert files.sha256(path) == hashlib.sha256(content).hexdigest()


def test_a_short_hash_depends_on_content_and_not_on_the_order_of_keys():
    expected = hashlib.sha256(b'{"a": [1, null], "b": "x"}').hexdigest()[:12]
    assert files.short_hash({"b": "x", "a": [1, None]}) == files.short_hash({"a": (1, None), "b": "x"}) == expected
    assert files.short_hash({"a": [None, 1], "b": "x"}) != expected


def test_writing_files_needs_the_standard_library_alone():
    code = "import sys, tokenizer.files; print({'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
