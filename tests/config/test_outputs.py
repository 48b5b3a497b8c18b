"""Where a verb writes: refused with the key before anything is computed, and nothing is left behind."""

import os
from pathlib import Path

import pytest

from experiments.config.checks import check_output
from experiments.config.errors import ConfigError
from tokenizer.files import made_folder, write_text


@pytest.mark.parametrize(("name", "is_file"), [("file", False), ("file/below", False), ("file/below", True), ("folder", True)])
def test_an_output_of_the_wrong_kind_is_refused(name, is_file, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError) as caught:
        check_output(tmp_path / name, is_file)
    assert (caught.value.key, caught.value.value) == ("output", str(tmp_path / name))


@pytest.mark.parametrize(("name", "is_file"), [("new/folder", False), ("folder", False), ("file", True), ("new/file", True)])
def test_the_check_of_an_output_leaves_nothing(name, is_file, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    check_output(tmp_path / name, is_file)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    assert os.listdir(tmp_path / "folder") == []


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a file system without new files")
def test_a_file_system_without_new_files_is_refused_even_for_a_user_who_may_write_everywhere():
    for path, is_file in (("/proc/new", False), ("/proc/new/file", True)):
        with pytest.raises(ConfigError):
            check_output(Path(path), is_file)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a file system without new files")
def test_a_folder_that_cannot_be_made_is_a_permission_and_not_a_missing_file(tmp_path):
    with pytest.raises(PermissionError) as caught, made_folder(Path("/proc/new/below")):
        pass
    assert caught.value.filename == "/proc/new/below"
    with pytest.raises(PermissionError):
        write_text(Path("/proc/new/file.txt"), "")
