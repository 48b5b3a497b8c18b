"""The npz file of samples: complete or absent, and readable beyond 2 GiB."""

import zipfile
from contextlib import suppress

import numpy as np
import pytest

from experiments.evaluation.sample_file import sample_file


def test_a_file_that_lacks_samples_is_not_left_behind(tmp_path):
    with pytest.raises(ValueError, match="1 images were written, expected 2"):
        with sample_file(tmp_path / "samples.npz", np.zeros(2, dtype=np.int64)) as file:
            file.write(np.zeros((1, 2, 2, 3), dtype=np.uint8))
    with suppress(KeyboardInterrupt), sample_file(tmp_path / "samples.npz", np.zeros(1, dtype=np.int64)) as file:
        file.write(np.zeros((1, 2, 2, 3), dtype=np.uint8))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_samples_may_grow_beyond_what_a_plain_archive_holds(tmp_path):
    """Its length is not known when it begins: without a 64-bit header zipfile refuses to go beyond 2 GiB."""
    with sample_file(tmp_path / "samples.npz", np.arange(2)) as file:
        file.write(np.full((2, 3, 4, 3), 7, dtype=np.uint8))
    with zipfile.ZipFile(tmp_path / "samples.npz") as archive:
        assert archive.testzip() is None
        first = archive.infolist()[0]
        with open(tmp_path / "samples.npz", "rb") as raw:
            header = raw.read(30)
    assert first.filename == "arr_0.npy"
    assert int.from_bytes(header[28:30], "little") >= 20  # room for 64-bit sizes in the local header
