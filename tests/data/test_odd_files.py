"""What is no regular file, cannot be inspected, blocks its reader or holds many images."""

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from experiments.config.errors import DataError
from experiments.config.packages import ROOT
from experiments.data import image_folder, loading, time_limits
from experiments.data.files import check_data, check_file, check_root
from experiments.data.loading import READERS, make_loader
from experiments.data.source import Draw, Unreadable
from experiments.data.time_limits import SlowRead
from tests.data.test_image_folder import folder, keys, write


def pipe(path):
    os.mkfifo(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


def device(path):
    path.symlink_to("/dev/zero")


def loop(path):
    path.symlink_to(path)


def dangling(path):
    path.symlink_to(path.parent / "gone")


ODD = [pipe, listening, device, loop, dangling]


@pytest.mark.parametrize("make", ODD)
def test_what_is_no_regular_file_is_left_out_and_counted(make, tmp_path, monkeypatch):
    write(tmp_path / "a/train/0.png")
    write(tmp_path / "a/val/0.png")
    monkeypatch.chdir(tmp_path)
    for part in ("train", "val"):
        make(tmp_path / "a" / part / "x.png")
    data = folder(tmp_path / "a")
    assert data.val[1] == Unreadable("val/x.png")
    assert data.train[Draw(0, 1)].key == "train/0.png"
    assert data.unreadable() == ["train/x.png"]
    assert not data.train.files.being_read.any()


@pytest.mark.parametrize("make", [*ODD, lambda path: path.mkdir()])
def test_a_path_that_leads_to_no_regular_file_is_refused(make, tmp_path):
    make(tmp_path / "x.png")
    with pytest.raises(DataError) as caught:
        check_file(tmp_path / "x.png", "reference", "a file of statistics")
    assert (caught.value.path, caught.value.key) == (tmp_path / "x.png", "reference")
    with pytest.raises(DataError) as caught:
        check_root(tmp_path / "x.png")
    assert caught.value.key == "data.root"
    with pytest.raises(DataError) as caught:
        check_data({"file": str(tmp_path / "x.png")})
    assert caught.value.key == "data.file"


@pytest.mark.parametrize("make", ODD)
def test_a_folder_without_a_regular_image_is_refused(make, tmp_path):
    (tmp_path / "root").mkdir()
    make(tmp_path / "root/x.png")
    with pytest.raises(DataError, match="no images"):
        check_root(tmp_path / "root")


def test_links_that_lead_to_each_other_end_no_scan(tmp_path, caplog):
    write(tmp_path / "a/1.png")
    write(tmp_path / "b/2.png")
    (tmp_path / "a/x").symlink_to(tmp_path / "a/y")
    (tmp_path / "a/y").symlink_to(tmp_path / "a/x")
    data = folder(tmp_path)
    assert sorted(keys(data.train) + keys(data.val)) == ["a/1.png", "b/2.png"]


def test_names_that_are_not_utf_8_are_skipped_and_counted(tmp_path, caplog):
    write(tmp_path / "a.png")
    for name in (b"\xff.png", b"\xfe"):
        (os.mkdir if name == b"\xfe" else os.mknod)(os.path.join(os.fsencode(tmp_path), name))
    assert keys(folder(tmp_path).val) == ["a.png"]
    assert [record.args[1] for record in caplog.records] == [2]


def test_folders_that_cannot_be_read_are_skipped_and_counted(tmp_path, caplog, monkeypatch):
    write(tmp_path / "a/1.png")
    write(tmp_path / "b/2.png")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("b/"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", lambda path: refusing(f"{path}/"))
    assert keys(folder(tmp_path).val) == ["a/1.png"]
    assert (1, "folders cannot be read (Permission denied)", "b/") in [record.args[1:] for record in caplog.records]


@pytest.mark.parametrize("name", ["shard.tar", "part.parquet", "notes.txt", "damaged.jpg"])
def test_a_file_that_is_no_image_is_refused_as_root(tmp_path, name):
    (tmp_path / name).write_bytes(b"no image" * 100)
    with pytest.raises(DataError) as caught:
        check_root(tmp_path / name)
    assert caught.value.key == "data.root"
    assert ("shards" in caught.value.reason) == name.endswith(("tar", "parquet"))


def test_a_folder_of_shards_is_refused_with_their_number(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.tar").touch()
    with pytest.raises(DataError, match=r"3 files \.tar; shards of many images are not supported"):
        check_root(tmp_path)


def test_images_that_are_enlarged_are_counted_with_the_smallest(tmp_path, caplog):
    for name, size in (("train/a.png", (20, 16)), ("train/b.png", (90, 80)), ("val/a.png", (20, 17)), ("val/b.png", (99, 99))):
        write(tmp_path / name, size=size)
    data = folder(tmp_path, image_size=64)
    assert [record.args for record in caplog.records] == [
        ("training", 64, "1 of 2 images enlarged, the smallest of 16 x 20 pixels"),
        ("evaluation", 73, "1 of 2 images enlarged, the smallest of 17 x 20 pixels"),
    ]
    assert data.transform.endswith("; 1 of 2 images enlarged, the smallest of 17 x 20 pixels")


def blocking(path, shorter_side):
    if path.name == "slow.png":
        time.sleep(600)
    return Image.new("RGB", (32, 32))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_blocks_its_reader_is_named_after_the_time_limit(tmp_path, workers, monkeypatch):
    for name in ("val/a.png", "val/slow.png"):
        write(tmp_path / name)
    monkeypatch.setattr(time_limits, "READ_SECONDS", 0.2)
    monkeypatch.setattr(image_folder, "decode_for", blocking)
    data = folder(tmp_path)
    with pytest.raises(SlowRead) as caught:
        list(make_loader(data.val, data.collate, [[0, 1]], workers))
    assert caught.value.path == tmp_path / "val/slow.png"
    assert not [reader for reader in READERS if reader.is_alive()]


def unanswered(*reading):
    """Never returns, as a read from a mount that does not respond: no signal interrupts it."""
    while True:
        with suppress(DataError):
            time.sleep(600)


@pytest.fixture
def short_answers(monkeypatch):
    """A batch may take a fifth of a second, and reading processes are looked after as often."""
    monkeypatch.setattr(loading, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)


def test_a_reader_that_no_signal_interrupts_is_killed_and_its_file_named(tmp_path, short_answers, monkeypatch):
    for name in ("val/a.png", "val/slow.png"):
        write(tmp_path / name)
    monkeypatch.setattr(image_folder, "decode_for", lambda path, side: unanswered() if path.name == "slow.png" else Image.open(path))
    data = folder(tmp_path)
    with pytest.raises(DataError) as caught:
        list(make_loader(data.val, data.collate, [[0, 1]], 1))
    assert not isinstance(caught.value, SlowRead)
    assert "val/slow.png" in caught.value.reason
    assert "a.png" not in caught.value.reason
    assert not [reader for reader in READERS if reader.is_alive()]


class Failing(list):
    """Examples whose reading fails."""

    def __getitem__(self, place):
        raise RuntimeError("the socket timed out")


def test_an_error_of_a_reader_that_mentions_a_timeout_is_no_timeout():
    with pytest.raises(RuntimeError, match="in __getitem__") as caught:
        list(make_loader(Failing([0]), list, [[0]], 1))
    assert type(caught.value) is RuntimeError


class Ended:
    """Batches of which the next cannot be read."""

    def __init__(self, alive):
        self._workers = [SimpleNamespace(is_alive=lambda: alive)]

    def __next__(self):
        raise RuntimeError


@pytest.mark.parametrize(("alive", "error"), [(True, DataError), (False, RuntimeError)])
def test_only_a_reader_that_is_alive_has_not_answered(alive, error, monkeypatch):
    monkeypatch.setattr(loading, "ANSWER_SECONDS", 1e-9)
    with pytest.raises(error) as caught:
        make_loader([0], list, [[0]], 1)._next(Ended(alive))
    assert type(caught.value) is error


OUTLIVING = """
import threading, time
from experiments.data.loading import READERS, make_loader

class Blocked(list):
    def __getitem__(self, place):
        while True:
            try:
                time.sleep(600)
            except Exception:
                pass

batches = iter(make_loader(Blocked([0]), list, [[0]], 1))
threading.Thread(target=lambda: next(batches), daemon=True).start()
while not READERS:
    time.sleep(0.01)
time.sleep(0.5)
print(next(iter(READERS)).pid, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "raise SystemExit(3)"])
def test_no_reader_outlives_its_process(end):
    # Output to a pipe would be waited for until the reader has ended too.
    with subprocess.Popen([sys.executable, "-c", OUTLIVING + end], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        number = int(process.stdout.readline())
        assert process.wait(timeout=60) != 0
    for _ in range(100):
        if not is_running(number):
            break
        time.sleep(0.1)
    assert not is_running(number)


def is_running(number):
    """Whether a process runs; one that has ended may remain in the table until its new parent asks for its status."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
